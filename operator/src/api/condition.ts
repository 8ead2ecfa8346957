/** A condition as Kubernetes writes it (meta/v1). `lastTransitionTime` changes only with `status`. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  /** CamelCase, a word for programs. */
  readonly reason: string;
  /** For people: what is, and what to do. */
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}
