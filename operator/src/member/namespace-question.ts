/**
 * A question about a namespace that costs a list of all its objects of a kind: members that are looked at together share the
 * answer, and it is asked again only after a while. A question that failed is asked again by the next look.
 */
import type { Clock } from '@collective/base/clock';

const ASK_AGAIN_MS = 15_000;
const NAMESPACES_KEPT_MAX = 1_000;

export interface NamespaceQuestionOptions<Answer> {
  readonly clock: Clock;
  readonly ask: (namespace: string, signal: AbortSignal) => Promise<Answer>;
}

export class NamespaceQuestion<Answer> {
  readonly #options: NamespaceQuestionOptions<Answer>;
  readonly #asked = new Map<string, { readonly atMs: number; readonly answer: Promise<Answer> }>();

  constructor(options: NamespaceQuestionOptions<Answer>) {
    this.#options = options;
  }

  async answer(namespace: string, signal: AbortSignal): Promise<Answer> {
    const { clock, ask } = this.#options;
    const known = this.#asked.get(namespace);
    const nowMs = clock.bootMs();
    if (known !== undefined && nowMs - known.atMs < ASK_AGAIN_MS) return await known.answer;
    if (this.#asked.size >= NAMESPACES_KEPT_MAX) this.#asked.clear();
    const asked = { atMs: nowMs, answer: ask(namespace, signal) };
    this.#asked.set(namespace, asked);
    try {
      return await asked.answer;
    } catch (thrown) {
      if (this.#asked.get(namespace) === asked) this.#asked.delete(namespace);
      throw thrown;
    }
  }
}
