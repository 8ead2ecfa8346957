/**
 * A node's own certificate and roots over time: renewed over its own identity when they are due (T3), and changed to what the
 * coordinator says of the member's roots (T6). In a folder that somebody else keeps nothing is written.
 */
import type { Clock } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import type { TrustBundle } from '@collective/protocol/gen/common';
import { keepRenewed, type RenewalLoop } from '@collective/protocol/tls/keep-renewed';
import { requestRenewal } from '@collective/protocol/tls/request-renewal';
import { takeBundle } from '@collective/protocol/tls/trust-bundle';
import type { TrustFiles } from '@collective/protocol/tls/trust-files';

export interface OwnCertificateOptions {
  readonly trust: TrustFiles;
  readonly clock: Clock;
  readonly log: Log;
  /** `host:port` */
  readonly coordinator: string;
}

export class OwnCertificate implements AsyncDisposable {
  readonly #options: OwnCertificateOptions;
  readonly #renewal: RenewalLoop;
  #signingRoot = '';

  constructor(options: OwnCertificateOptions) {
    this.#options = options;
    const { trust, clock, log } = options;
    this.#renewal = keepRenewed({
      trust,
      clock,
      log,
      request: (csr) => requestRenewal({ ...options, csr }),
      signingRoot: () => this.#signingRoot,
    });
  }

  /** Never throws; what cannot be used yet comes again with the next heartbeat. */
  async take(told: TrustBundle): Promise<void> {
    const { trust, log } = this.#options;
    try {
      if (await takeBundle(trust, told)) log.info({ roots: trust.current.roots.length }, 'trust bundle taken');
    } catch (thrown) {
      log.warn({ err: thrown }, 'trust bundle not taken');
    }
    if (told.signingRoot === this.#signingRoot) return;
    this.#signingRoot = told.signingRoot;
    this.#renewal.lookNow();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#renewal.stop();
  }
}
