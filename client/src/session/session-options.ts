/** What a session is given and what it tells: its ports, its bounds in time, the hooks of the layer above. */
import type { Clock } from '@collective/base/clock';
import type { CollectiveError } from '@collective/base/errors';
import type { Random } from '@collective/base/random';
import type { AccessToken, NodeRoute, TrustBundle } from '@collective/protocol/gen/common';
import type { Attached, Credential, SpaceHeld } from '@collective/protocol/gen/session';
import type { SessionConnector } from './session-connector.ts';

export const CONNECT_WITHIN_MS = 10_000;
export const RECONNECT_WITHIN_MS = 30_000;

export interface RecallRequest {
  readonly inode: number;
  /** Bits of PromiseKind. */
  readonly kinds: number;
  /** Of entries: which changed; empty: all. */
  readonly names: readonly Uint8Array[];
}

export interface RecallAnswer {
  /** Asked with PROMISE_OPEN: the inode is open here (M8). */
  readonly open?: boolean;
  /** Requests that the coordinator must answer before the recall can be carried out (F4). */
  readonly blockedBy?: readonly number[];
}

/** What happened to the session, for the layers above and for logs. */
export type SessionEvent =
  | { readonly kind: 'attached'; readonly attached: Attached }
  | { readonly kind: 'routes'; readonly nodes: readonly NodeRoute[] }
  | { readonly kind: 'access'; readonly access: AccessToken }
  | { readonly kind: 'trust'; readonly told: TrustBundle }
  | { readonly kind: 'attach-failed'; readonly error: CollectiveError }
  | { readonly kind: 'link-lost'; readonly error: CollectiveError }
  | { readonly kind: 'lease-ended' }
  | { readonly kind: 'session-lost'; readonly changesInDoubt: number }
  | { readonly kind: 'replay-differs'; readonly inode: number; readonly error: CollectiveError };

export interface SessionOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly connector: SessionConnector;
  /** Name and version, shown in the member's status. */
  readonly program: string;
  readonly listener: string;
  /** Wants promises (M7). */
  readonly caches?: boolean;
  readonly credential?: Credential;
  readonly bundleHash?: () => string;
  /** From the first try to attach until it is given up. */
  readonly connectWithinMs?: number;
  /** How long a call waits for a coordinator that is out of reach. */
  readonly reconnectWithinMs?: number;
  /** Called after what was cached is dropped; the recall is acknowledged when it resolves (M7). */
  readonly onRecall?: (recall: RecallRequest) => Promise<RecallAnswer>;
  /** For attaching: inodes that the layer above has open (M8). */
  readonly openInodes?: () => number[];
  /** For attaching: what is still granted to this session (M10). */
  readonly space?: () => SpaceHeld[];
  /** Somebody finds no room in the realm: answers how many of the bytes granted there are given back and not used any more (M10). */
  readonly onSpaceRecall?: (realm: number) => number;
  readonly onEvent?: (event: SessionEvent) => void;
}

export interface CallSettings {
  readonly signal?: AbortSignal;
  /** Default 'stable' (M4). */
  readonly durability?: 'stable' | 'written';
  /** Unset: the session's. Never answered from the cache when set. */
  readonly credential?: Credential;
  /** Never answered from the cache. */
  readonly fresh?: boolean;
  /** Waits for ever, until the signal: for locks. */
  readonly unlimited?: boolean;
}
