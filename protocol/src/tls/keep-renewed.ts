/**
 * Keeps a peer's leaf fresh (T3): at two thirds of its life, and when another root of its bundle signs now (T6), a new key and
 * a request for it go to whoever signs; the answer is written as a set and taken into use. A failure is tried again soon, with
 * the same request, which may have been signed meanwhile (T5); a third of the life is left for that. A folder that somebody
 * else keeps is left to them.
 */
import { type Clock, type Timer, wallMs } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { CertificateRequest } from './make-csr.ts';
import { isKeptByOthers, isOfEarlierRoot } from './trust-bundle.ts';
import { type TrustFiles, writeTrustFiles } from './trust-files.ts';
import { parseTrustSet, type TrustSet } from './trust-set.ts';

const RENEW_AT_SHARE = 2 / 3;
const LOOK_EVERY_MS = 3_600_000;
/** Short-lived leaves are looked at so often within their last third, and failures tried again so often. */
const LOOK_EVERY_MS_MIN = 10_000;
const FAILED_AGAIN_MS = 60_000;

export interface Renewal {
  readonly trust: TrustFiles;
  readonly clock: Clock;
  readonly log: Log;
  /** Has the request signed. */
  readonly request: (csr: Buffer) => Promise<{ readonly certificatePem: string; readonly bundlePem: string }>;
  /** Fingerprint of the root that signs now, where that is known; empty: it is not. */
  readonly signingRoot?: () => string;
}

export interface RenewalLoop {
  /** The reason to renew may have come. */
  lookNow(): void;
  /** Resolves when a renewal that is under way has ended. */
  stop(): Promise<void>;
}

export function isRenewalDue(
  { notBeforeMs, notAfterMs }: Pick<TrustSet, 'notBeforeMs' | 'notAfterMs'>,
  clock: Clock,
): boolean {
  return wallMs(clock) >= notBeforeMs + (notAfterMs - notBeforeMs) * RENEW_AT_SHARE;
}

/** Renews now, due or not. */
export async function renew({ trust, request }: Pick<Renewal, 'trust' | 'request'>): Promise<void> {
  await renewWith(await newRequest(trust), { trust, request });
}

async function newRequest(trust: TrustFiles): Promise<CertificateRequest> {
  // The X.509 library costs a tenth of a second to load, and most runs do not need it.
  const { makeCsr } = await import('./make-csr.ts');
  return await makeCsr(trust.current.id);
}

async function renewWith(
  { csr, keyPem }: CertificateRequest,
  { trust, request }: Pick<Renewal, 'trust' | 'request'>,
): Promise<void> {
  const { id } = trust.current;
  const { certificatePem, bundlePem } = await request(csr);
  const set = parseTrustSet({ certificatePem, keyPem, bundlePem }, 'the certificate that was issued');
  if (set.id.uri !== id.uri)
    throw new CollectiveError('unauthenticated', `Renew the certificate of ${id.uri}: one of ${set.id.uri} was issued`);
  await writeTrustFiles(trust.folder, set);
  await trust.look();
}

/** Looks now, then now and then until it is stopped. */
export function keepRenewed(renewal: Renewal): RenewalLoop {
  const { trust, clock, log, signingRoot } = renewal;
  let stopped = false;
  let timer: Timer | undefined;
  let again = false;
  /** May have been signed, or be approved and wait for it. */
  let asked: CertificateRequest | undefined;
  let busy = false;
  const isDue = (): boolean =>
    isRenewalDue(trust.current, clock) || isOfEarlierRoot(trust.current, signingRoot?.() ?? '');
  const look = async (): Promise<void> => {
    busy = true;
    let failed = false;
    do {
      again = false;
      failed = isDue() && !(await isKeptByOthers(trust.folder)) && !(await attempt());
    } while (again && !stopped);
    busy = false;
    if (stopped) return;
    const pauseMs = failed ? Math.min(FAILED_AGAIN_MS, pauseOf(trust.current)) : pauseOf(trust.current);
    timer = clock.setTimer(pauseMs, begin, { background: true });
  };
  const attempt = async (): Promise<boolean> => {
    const subject = trust.current.id.uri;
    try {
      asked ??= await newRequest(trust);
      await renewWith(asked, renewal);
      asked = undefined;
      log.info({ subject, notAfter: trust.current.leaf.validTo }, 'certificate renewed');
      return true;
    } catch (thrown) {
      if (thrown instanceof CollectiveError && thrown.code === 'csr_refused') asked = undefined;
      log.warn({ subject, err: toCollectiveError(thrown, 'Renew the certificate') }, 'certificate not renewed');
      return false;
    }
  };
  let looking: Promise<void> = Promise.resolve();
  function begin(): void {
    timer?.cancel();
    looking = look();
  }
  begin();
  return {
    lookNow() {
      if (stopped) return;
      if (busy) again = true;
      else begin();
    },
    async stop() {
      stopped = true;
      timer?.cancel();
      await looking;
    },
  };
}

function pauseOf({ notBeforeMs, notAfterMs }: TrustSet): number {
  return Math.max(LOOK_EVERY_MS_MIN, Math.min(LOOK_EVERY_MS, (notAfterMs - notBeforeMs) / 60));
}
