/**
 * How the operator speaks to a member's coordinator, as a port: over gRPC as `/operator`, with an identity that never
 * touches a disk. It is the one truth about chunks: whether a node may go, and whether a volume may be deleted (K3).
 */

import type { Admin } from '@collective/client';
import type { ObjectKey } from '../kube/kube-object.ts';

export interface CoordinatorTarget {
  /** Of the Member: a connection is kept for each. */
  readonly key: ObjectKey;
  /** host:port */
  readonly address: string;
  readonly trustDomain: string;
  readonly identity: OperatorIdentity;
}

/** PEM, from the Secret of `/operator` and the trust bundle of the member. */
export interface OperatorIdentity {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly bundlePem: string;
}

export interface CoordinatorAccess extends Disposable {
  /**
   * The administration of a member. Throws `unauthenticated` for an identity that does not fit together; calls throw what
   * those of the client room do. Another address or identity than the last time closes the older connection.
   */
  admin(target: CoordinatorTarget): Promise<Admin>;
  /** Of a Member that is gone. */
  forget(key: ObjectKey): void;
}
