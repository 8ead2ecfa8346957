/**
 * The dialling side's part of T6: a connection that was opened with an earlier leaf of our own, or whose server's leaf is
 * about to expire or was signed by a root that we have dropped, is given up for a new one. So each side sees the other's
 * present leaf soon after it was replaced, and nothing hangs on an old root when that goes.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { guardConnection } from './connection-guard.ts';
import type { PeerIdentity } from './peer-identity.ts';
import type { Trust } from './trust-files.ts';

export interface DialledGuardOptions {
  readonly trust: Trust;
  readonly clock: Clock;
  /** Called once. `ownLeaf`: it was the own certificate that changed. */
  giveUp(reason: CollectiveError, ownLeaf: boolean): void;
}

export class DialledGuard implements Disposable {
  readonly #options: DialledGuardOptions;
  readonly #unsubscribe: () => void;
  #unguard: (() => void) | undefined;
  #over = false;

  /** Made before the connection is dialled, with the leaf that it will show. */
  constructor(options: DialledGuardOptions) {
    this.#options = options;
    const { trust } = options;
    const shown = trust.current.leaf.fingerprint256;
    this.#unsubscribe = trust.onChange(({ id, leaf }) => {
      if (leaf.fingerprint256 !== shown)
        this.#giveUp(
          new CollectiveError('unavailable', `Keep a connection of ${id.uri}: its certificate was replaced`),
          true,
        );
    });
  }

  /**
   * The server has proved who it is. Throws when nobody wants the connection any more: a gRPC channel that is closed while it
   * waits to dial again dials once more, and would keep what it gets for ever.
   */
  secured(peer: PeerIdentity): void {
    this.#unguard?.();
    if (this.#over)
      throw new CollectiveError('interrupted', `Connect to ${peer.uri}: the connection was given up meanwhile`);
    const { trust, clock } = this.#options;
    this.#unguard = guardConnection({ peer, trust, clock, close: (reason) => this.#giveUp(reason, false) });
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#unsubscribe();
    this.#unguard?.();
  }

  #giveUp(reason: CollectiveError, ownLeaf: boolean): void {
    if (this.#over) return;
    this[Symbol.dispose]();
    this.#options.giveUp(reason, ownLeaf);
  }
}
