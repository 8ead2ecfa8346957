/**
 * The public shapes of the member's trust (T6). Roots are named by the SHA-256 of the certificate as `AB:CD:...`, bundles by
 * the hash of the sorted names of their roots. Types only, as in `api.ts`.
 */
import type { Timestamp } from '@collective/base/clock';

export interface TrustStatus {
  /** Of the bundle that the coordinator has in use. */
  readonly bundleHash: string;
  readonly roots: readonly string[];
  /** That the coordinator's own leaf chains to. */
  readonly signingRoot: string;
  /** Every node and every session, counted by what they report. */
  readonly groups: readonly TrustGroup[];
  /** Every node; of sessions at most 100, those first that differ from the coordinator. */
  readonly peers: readonly PeerTrust[];
  readonly sessionsLeftOut: number;
  /** Connections that stand at the coordinator's port, unary calls too, by the root of the leaf that was shown. */
  readonly connections: readonly { readonly root: string; readonly count: number }[];
}

export interface TrustGroup {
  readonly kind: 'node' | 'user' | 'client' | (string & {});
  /** Empty: not reported. */
  readonly bundleHash: string;
  /** That its leaf was verified under; empty: not connected. */
  readonly root: string;
  readonly connected: boolean;
  readonly count: number;
}

export interface PeerTrust extends TrustGroup {
  /** URI */
  readonly peer: string;
  /** Of its leaf. */
  readonly notAfter?: Timestamp;
}
