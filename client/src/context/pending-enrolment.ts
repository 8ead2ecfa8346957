/**
 * An enrolment that was asked for and not answered yet. Its key and request lie beside the credentials from before it is sent,
 * because the member answers a used token again, but for the same key only (T3): whoever repeats a command whose answer
 * was lost, or that was killed, asks with the key of the first time.
 *
 * One a folder; the token itself is not written, only its SHA-256.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { toCollectiveError } from '@collective/base/errors';
import type { CertificateRequest } from '@collective/protocol/tls/make-csr';
import type { SpiffeId } from '@collective/protocol/tls/spiffe-id';
import { syncFolder, writeSynced } from '@collective/protocol/tls/synced-files';

const FILE = '..enrolling.json';
const UNFINISHED = '..enrolling.new';

export interface WantedEnrolment {
  /** Of the credentials; made if missing. */
  readonly folder: string;
  readonly token: string;
  readonly id: SpiffeId;
}

/** The request of an earlier try with this token and name, else a new one, which is stable before this resolves. */
export async function pendingRequest({ folder, token, id }: WantedEnrolment): Promise<CertificateRequest> {
  const tokenHash = createHash('sha256').update(token).digest('hex');
  const earlier = await readPending(folder);
  if (earlier?.token === tokenHash && earlier.subject === id.uri)
    return { csr: Buffer.from(earlier.csr, 'base64'), keyPem: earlier.keyPem };
  const { makeCsr } = await import('@collective/protocol/tls/make-csr');
  const request = await makeCsr(id);
  const pending: Pending = {
    token: tokenHash,
    subject: id.uri,
    csr: request.csr.toString('base64'),
    keyPem: request.keyPem,
  };
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await rm(join(folder, UNFINISHED), { force: true });
    await writeSynced(join(folder, UNFINISHED), `${JSON.stringify(pending)}\n`, 0o600);
    await rename(join(folder, UNFINISHED), join(folder, FILE));
    await syncFolder(folder);
  } catch (thrown) {
    throw toCollectiveError(thrown, `Write the new key in ${folder}`, 'disk_failed');
  }
  return request;
}

/** It was answered, or never will be. */
export async function forgetPending(folder: string): Promise<void> {
  await rm(join(folder, FILE), { force: true });
}

interface Pending {
  readonly token: string;
  readonly subject: string;
  readonly csr: string;
  readonly keyPem: string;
}

/** Undefined when there is none that can be used. */
async function readPending(folder: string): Promise<Pending | undefined> {
  let found: unknown;
  try {
    found = JSON.parse(await readFile(join(folder, FILE), 'utf8'));
  } catch (thrown) {
    const missing = (thrown as NodeJS.ErrnoException).code === 'ENOENT';
    if (missing || thrown instanceof SyntaxError) return undefined;
    throw toCollectiveError(thrown, `Read ${join(folder, FILE)}`, 'disk_failed');
  }
  return isPending(found) ? found : undefined;
}

function isPending(found: unknown): found is Pending {
  if (typeof found !== 'object' || found === null) return false;
  const { token, subject, csr, keyPem } = found as Partial<Record<keyof Pending, unknown>>;
  return [token, subject, csr, keyPem].every((field) => typeof field === 'string' && field !== '');
}
