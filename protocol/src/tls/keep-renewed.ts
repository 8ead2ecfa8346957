/**
 * Keeps a peer's leaf fresh (T3): at two thirds of its life a new key and a request for it go to whoever signs, the answer is
 * written as a set and taken into use. A failure is tried again soon; a third of the life is left for that.
 */
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { type TrustFiles, writeTrustFiles } from './trust-files.ts';
import { parseTrustSet, type TrustSet } from './trust-set.ts';

const RENEW_AT_SHARE = 2 / 3;
const LOOK_EVERY_MS = 3_600_000;
/** Short-lived leaves are looked at so often within their last third, and failures tried again so often. */
const LOOK_EVERY_MS_MIN = 10_000;

export interface Renewal {
  readonly trust: TrustFiles;
  readonly clock: Clock;
  readonly log: Log;
  /** Has the request signed. */
  readonly request: (csr: Buffer) => Promise<{ readonly certificatePem: string; readonly bundlePem: string }>;
}

export function isRenewalDue(
  { notBeforeMs, notAfterMs }: Pick<TrustSet, 'notBeforeMs' | 'notAfterMs'>,
  clock: Clock,
): boolean {
  return wallMs(clock) >= notBeforeMs + (notAfterMs - notBeforeMs) * RENEW_AT_SHARE;
}

/** Renews now, due or not. */
export async function renew({ trust, request }: Omit<Renewal, 'log' | 'clock'>): Promise<void> {
  const { id } = trust.current;
  // The X.509 library costs a tenth of a second to load, and most runs do not need it.
  const { makeCsr } = await import('./make-csr.ts');
  const { csr, keyPem } = await makeCsr(id);
  const { certificatePem, bundlePem } = await request(csr);
  const set = parseTrustSet({ certificatePem, keyPem, bundlePem }, 'the certificate that was issued');
  if (set.id.uri !== id.uri)
    throw new CollectiveError('unauthenticated', `Renew the certificate of ${id.uri}: one of ${set.id.uri} was issued`);
  await writeTrustFiles(trust.folder, set);
  await trust.look();
}

/** Looks now and then until the result is called, which resolves when a renewal that is under way has ended. */
export function keepRenewed(renewal: Renewal): () => Promise<void> {
  const { trust, clock, log } = renewal;
  let stopped = false;
  let timer: Timer | undefined;
  const look = async (): Promise<void> => {
    if (isRenewalDue(trust.current, clock)) {
      try {
        await renew(renewal);
        log.info({ subject: trust.current.id.uri, notAfter: trust.current.leaf.validTo }, 'certificate renewed');
      } catch (thrown) {
        log.warn(
          { subject: trust.current.id.uri, err: toCollectiveError(thrown, 'Renew the certificate') },
          'certificate not renewed',
        );
      }
    }
    if (stopped) return;
    timer = clock.setTimer(
      pauseMs(trust.current),
      () => {
        looking = look();
      },
      { background: true },
    );
  };
  let looking = look();
  return async () => {
    stopped = true;
    timer?.cancel();
    await looking;
  };
}

function pauseMs({ notBeforeMs, notAfterMs }: TrustSet): number {
  return Math.max(LOOK_EVERY_MS_MIN, Math.min(LOOK_EVERY_MS, (notAfterMs - notBeforeMs) / 60));
}
