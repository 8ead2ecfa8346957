/** For programs that only administer, with an identity that they hold in memory themselves (T4). */
import type { Trust } from '@collective/protocol/tls/trust-files';
import type { Admin } from './api.ts';

export interface AdminTarget {
  /** Host and port of the coordinator. */
  readonly coordinator: string;
  /** `<member>.<collective>`: the name that the coordinator must prove (T2). */
  readonly trustDomain: string;
  /** Stays the caller's: a `MemoryTrust`, or `TrustFiles`. Each change of it is in use with the next call. */
  readonly trust: Trust;
  /** How long a call waits for its answer when that takes no long work; default 15 s. */
  readonly callWithinMs?: number;
}

/** Disposing it closes the connection, and the identity stays as it is. */
export interface AdminConnection extends Disposable {
  readonly admin: Admin;
}
