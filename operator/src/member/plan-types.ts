/** What planners answer with: values that say what is to be done; `apply` does it, `report` tells it. */
import type { KubeObject, ObjectReference, ResourceKind } from '../kube/kube-object.ts';

export interface Apply {
  readonly resource: ResourceKind;
  readonly object: KubeObject;
  /** Tried in its place while there is none; if that is refused, `object` is applied. */
  readonly atFirst?: KubeObject;
}

/** Only that very object is removed. */
export interface Removal {
  readonly reference: ObjectReference;
  readonly uid: string;
  /** It is there until all that it owns is gone. */
  readonly withDependents?: boolean;
}

export interface PlannedCondition {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

export interface PlannedEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}
