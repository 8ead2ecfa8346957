/** What planners answer with: values that say what is to be done; `apply` does it, `report` tells it. */
import type { KubeObject, ObjectReference, ResourceKind } from '../kube/kube-object.ts';

export interface Apply {
  readonly resource: ResourceKind;
  readonly object: KubeObject;
}

/** Only that very object is removed. */
export interface Removal {
  readonly reference: ObjectReference;
  readonly uid: string;
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
