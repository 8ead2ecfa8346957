/**
 * What must be there before a member can be talked to (T4): its authority, the coordinator's certificate, and a first person
 * who may let others in. `collective up` makes certificates for that person and for its nodes in process; a coordinator
 * that is started alone writes a one-time token for an administrator instead.
 *
 * In the data folder: `ca/`, `tls/`, `first-user.json`, `bootstrap-token`. An edge: files are read and written here.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, wallMs } from '@collective/base/clock';
import { readIfThere } from '@collective/base/disk/read-if-there';
import { CollectiveError } from '@collective/base/errors';
import { parseMemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';
import { type Log, silentLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import { isRenewalDue } from '@collective/protocol/tls/keep-renewed';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { parseSpiffeId, type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { replaceSynced } from '@collective/protocol/tls/synced-files';
import { readTrustPems, TrustFiles, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustSet } from '@collective/protocol/tls/trust-set';
import type { Engine } from './engine/transaction.ts';
import type { Enrolment } from './membership/enrolment.ts';
import { EmbeddedCa } from './membership/signer/embedded-ca.ts';
import type { Signer } from './membership/signer/signer.ts';
import { allSubjects, putFirstUser } from './membership/subjects.ts';

/** Clocks that were set back a little are no reason to refuse. */
const CLOCK_TOLERANCE_MS = 60_000;
const BOOTSTRAP_TTL_SECONDS = 30 * 86_400;
export const BOOTSTRAP_USER = 'admin';

interface World {
  readonly clock: Clock;
  readonly random: Random;
}

/** A peer that gets its certificate without a token, because it lives where the authority does. */
export interface LocalPeer {
  readonly name: string;
  readonly trustFolder: string;
}

export interface NewMember extends World {
  /** Of the coordinator. */
  readonly dataFolder: string;
  readonly member: string;
  readonly collective: string;
  readonly nodes: readonly LocalPeer[];
  /** Becomes administrator and trusted at the coordinator's first start (T3a). */
  readonly user: LocalPeer;
}

/**
 * Makes authority and certificates where they are missing, and renews those that are due. Safe to repeat; the coordinator
 * must not be running. Throws `wrong_member`, `clock_wrong`.
 */
export async function initialiseMember({
  dataFolder,
  member,
  collective,
  nodes,
  user,
  clock,
  random,
}: NewMember): Promise<void> {
  const trustDomain = trustDomainOf(parseMemberName(member), collective);
  const ca = await openAuthority(dataFolder, trustDomain, { clock, random });
  await ensureIssued(ca, spiffeId(trustDomain, 'coordinator'), trustFolderOf(dataFolder), clock);
  for (const node of nodes) await ensureIssued(ca, spiffeId(trustDomain, 'node', node.name), node.trustFolder, clock);
  const id = spiffeId(trustDomain, 'user', user.name);
  await ensureIssued(ca, id, user.trustFolder, clock);
  if ((await readFirstUser(dataFolder)) === undefined)
    await replaceSynced(join(dataFolder, 'first-user.json'), `${JSON.stringify({ uri: id.uri })}\n`);
}

export interface CoordinatorIdentity {
  readonly trust: TrustFiles;
  /** Undefined when another authority signs (T5). */
  readonly ca: EmbeddedCa | undefined;
}

export interface IdentityOptions extends World {
  readonly dataFolder: string;
  readonly trustFolder?: string;
  readonly member: string;
  readonly collective: string;
  readonly autoTls: boolean;
  readonly log?: Log;
}

/** Throws `not_found` without certificates, `wrong_member` with another's, `clock_wrong`, `unauthenticated` when expired. */
export async function openIdentity(options: IdentityOptions): Promise<CoordinatorIdentity> {
  const { dataFolder, member, collective, autoTls, clock, log = silentLog } = options;
  const trustDomain = trustDomainOf(parseMemberName(member), collective);
  const trustFolder = options.trustFolder ?? trustFolderOf(dataFolder);
  const id = spiffeId(trustDomain, 'coordinator');
  const embedded = autoTls || (await isThere(join(dataFolder, 'ca', 'generation.json')));
  const ca = embedded ? await openAuthority(dataFolder, trustDomain, options) : undefined;
  if (ca !== undefined && options.trustFolder === undefined) await ensureIssued(ca, id, trustFolder, clock);
  let trust: TrustFiles;
  try {
    trust = await TrustFiles.load(trustFolder, { clock, log });
  } catch (cause) {
    if (!(cause instanceof CollectiveError) || cause.code !== 'not_found') throw cause;
    throw new CollectiveError(
      'not_found',
      `Start the coordinator of ${trustDomain}: there is no certificate in ${trustFolder}; --auto-tls makes one`,
      { cause },
    );
  }
  if (trust.current.id.uri !== id.uri)
    throw new CollectiveError(
      'wrong_member',
      `Start the coordinator ${id.uri}: the certificate in ${trustFolder} is ${trust.current.id.uri}`,
    );
  checkDates(trust.current, clock);
  return { trust, ca };
}

/** A leaf for a name of our own, from the authority in this process. */
export async function issueLocally(signer: Signer, id: SpiffeId): Promise<TrustSet> {
  const { csr, keyPem } = await makeCsr(id);
  const { certificatePem } = await signer.sign(await checkCsr(csr, id));
  return parseTrustSet({ certificatePem, keyPem, bundlePem: signer.bundlePem() }, 'the certificate that was issued');
}

/**
 * At every start, when the engine runs: the first user becomes a subject; a member that nobody may administer gets a token
 * in `bootstrap-token`, for the user `admin`. Where another authority signs (T5) the first person comes from elsewhere, in
 * Kubernetes from the Member's users, and a token for an administrator must not lie about.
 */
export async function letFirstUserIn({
  dataFolder,
  engine,
  enrolment,
  signsHere = true,
  log = silentLog,
}: {
  dataFolder: string;
  engine: Engine;
  enrolment: Enrolment;
  signsHere?: boolean;
  log?: Log;
}): Promise<void> {
  const firstUser = await readFirstUser(dataFolder);
  // One that was removed does not come back while somebody administers the member.
  if (firstUser !== undefined)
    await engine.run((tx) => {
      if (!allSubjects(tx).some(({ admin }) => admin)) putFirstUser(tx, firstUser);
    });
  const known = await engine.run((tx) => allSubjects(tx).some(({ admin }) => admin));
  const file = join(dataFolder, 'bootstrap-token');
  const written = await readIfThere(file);
  if (known && signsHere) {
    // Who came in by another way leaves one that would be good for a month.
    if (written !== undefined && (await enrolment.isUsable(written.trim())))
      await enrolment.revokeToken(written.trim());
    await rm(file, { force: true });
    return;
  }
  if (!signsHere) {
    if (written === undefined) return;
    await enrolment.revokeToken(written.trim());
    await rm(file, { force: true });
    log.info({ file }, 'bootstrap token revoked');
    return;
  }
  if (written !== undefined && (await enrolment.isUsable(written.trim()))) return;
  const { token } = await enrolment.createToken({
    role: 'user',
    name: BOOTSTRAP_USER,
    ttlSeconds: BOOTSTRAP_TTL_SECONDS,
    admin: true,
    trusted: true,
    realms: [],
    uid: undefined,
  });
  await replaceSynced(file, `${token}\n`);
  log.info({ file, user: BOOTSTRAP_USER }, 'bootstrap token written');
}

export function trustFolderOf(dataFolder: string): string {
  return join(dataFolder, 'tls');
}

async function openAuthority(
  dataFolder: string,
  trustDomain: TrustDomain,
  { clock, random }: World,
): Promise<EmbeddedCa> {
  await mkdir(dataFolder, { recursive: true, mode: 0o700 });
  const ca = await EmbeddedCa.open({ folder: join(dataFolder, 'ca'), trustDomain, clock, random });
  if (wallMs(clock) + CLOCK_TOLERANCE_MS < ca.notBeforeMs)
    throw new CollectiveError(
      'clock_wrong',
      `Use the authority of ${trustDomain}: it is valid from ${new Date(ca.notBeforeMs).toISOString()}, the clock says ${new Date(wallMs(clock)).toISOString()}`,
    );
  return ca;
}

async function ensureIssued(ca: EmbeddedCa, id: SpiffeId, folder: string, clock: Clock): Promise<void> {
  const found = await readSet(folder);
  if (found !== undefined) {
    if (found.id.uri !== id.uri)
      throw new CollectiveError(
        'wrong_member',
        `Make a certificate for ${id.uri} in ${folder}: there is one of ${found.id.uri}`,
      );
    const ours = found.bundlePem === ca.bundlePem();
    if (ours && !isRenewalDue(found, clock)) return;
  }
  await writeTrustFiles(folder, await issueLocally(ca, id));
}

/** Undefined when there is none that can be used. */
async function readSet(folder: string): Promise<TrustSet | undefined> {
  try {
    return parseTrustSet(await readTrustPems(folder), folder);
  } catch (thrown) {
    // What cannot be used is made anew by the authority that lies beside it.
    if (thrown instanceof CollectiveError && (thrown.code === 'not_found' || thrown.code === 'unauthenticated'))
      return undefined;
    throw thrown;
  }
}

function checkDates({ id, notBeforeMs, notAfterMs }: TrustSet, clock: Clock): void {
  const nowMs = wallMs(clock);
  const now = new Date(nowMs).toISOString();
  if (nowMs + CLOCK_TOLERANCE_MS < notBeforeMs)
    throw new CollectiveError(
      'clock_wrong',
      `Use the certificate of ${id.uri}: it is valid from ${new Date(notBeforeMs).toISOString()}, the clock says ${now}`,
    );
  if (nowMs >= notAfterMs)
    throw new CollectiveError(
      'unauthenticated',
      `Use the certificate of ${id.uri}: it expired at ${new Date(notAfterMs).toISOString()}, the clock says ${now}`,
    );
}

async function readFirstUser(dataFolder: string): Promise<SpiffeId | undefined> {
  const path = join(dataFolder, 'first-user.json');
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return parseSpiffeId(String((JSON.parse(text) as { uri?: unknown }).uri));
  } catch (thrown) {
    throw new CollectiveError('store_damaged', `Read ${path}`, { cause: thrown });
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await readIfThere(path)) !== undefined;
}
