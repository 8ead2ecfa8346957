/**
 * Ends a connection in order before its peer's leaf expires, and when the root that signed it is no longer trusted (T6):
 * TLS looks at neither after the handshake. The peer connects again with its renewed certificate.
 */
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { PeerIdentity } from './peer-identity.ts';
import type { Trust } from './trust-files.ts';

/** Before the end: time for the peer to finish what it does. */
const EXPIRY_MARGIN_MS = 30_000;
/** Timers are looked at again at least so often, so that a step of the clock is noticed. */
const LOOK_EVERY_MS = 60_000;

export interface GuardedConnection {
  readonly peer: PeerIdentity;
  readonly trust: Trust;
  readonly clock: Clock;
  /** Called once. */
  close(reason: CollectiveError): void;
}

/** Guards until the result is called. */
export function guardConnection({ peer, trust, clock, close }: GuardedConnection): () => void {
  let timer: Timer | undefined;
  const end = (): void => {
    timer?.cancel();
    unsubscribe();
  };
  const closeFor = (why: string): void => {
    end();
    close(new CollectiveError('unauthenticated', `Keep the connection of ${peer.uri}: ${why}`));
  };
  const look = (): void => {
    const leftMs = peer.notAfterMs - EXPIRY_MARGIN_MS - wallMs(clock);
    if (leftMs <= 0) closeFor('its certificate is about to expire');
    else timer = clock.setTimer(Math.min(leftMs, LOOK_EVERY_MS), look, { background: true });
  };
  const unsubscribe = trust.onChange((set) => {
    if (!set.roots.some((root) => root.fingerprint256 === peer.rootFingerprint256))
      closeFor('the root that signed its certificate is no longer trusted');
  });
  look();
  return end;
}
