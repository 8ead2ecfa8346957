/**
 * Nodes that start beside their coordinator, from one description of all, need nobody who makes tokens for them: the coordinator
 * lays an invitation for each into a folder that they share, `NAME.invitation`, readable by their user alone. A node that the
 * member knows is not invited, and what was written for it is removed; one that was removed from the member is new again at the
 * next start. An edge: files are read and written here.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '@collective/base/disk/file-error';
import { CollectiveError } from '@collective/base/errors';
import type { NodeName, TrustDomain } from '@collective/base/ids';
import type { Log } from '@collective/base/log';
import { formatInvitation, type Invitation, parseInvitation } from '@collective/protocol/tls/invitation';
import { replaceSynced } from '@collective/protocol/tls/synced-files';
import type { Enrolment } from './enrolment.ts';

/** Those who are meant start at once, or when somebody has mended what keeps them. */
const TTL_SECONDS = 30 * 86_400;

export interface NodeInvitations {
  readonly names: readonly NodeName[];
  readonly folder: string;
  readonly trustDomain: TrustDomain;
  readonly bundlePem: string;
  /** Whether the node has ever registered, and was not removed since. */
  readonly isKnown: (name: NodeName) => boolean;
  readonly enrolment: Pick<Enrolment, 'createToken' | 'isUsable'>;
  readonly log: Log;
}

export async function inviteNodes(wanted: NodeInvitations): Promise<void> {
  const { names, folder, enrolment, log } = wanted;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of names) {
      const file = join(folder, `${name}.invitation`);
      if (wanted.isKnown(name)) {
        await rm(file, { force: true });
      } else if (!(await isStillGood(file, name, wanted))) {
        await replaceSynced(file, formatInvitation(await invitationFor(name, wanted, enrolment)));
        log.info({ file, node: name }, 'node invited');
      }
    }
  } catch (thrown) {
    if (thrown instanceof CollectiveError) throw thrown;
    throw fileError(`Write invitations into ${folder}`, thrown);
  }
}

async function invitationFor(
  name: NodeName,
  { trustDomain, bundlePem }: NodeInvitations,
  enrolment: NodeInvitations['enrolment'],
): Promise<Invitation> {
  const { token } = await enrolment.createToken({
    role: 'node',
    name,
    ttlSeconds: TTL_SECONDS,
    admin: false,
    trusted: false,
    realms: [],
    uid: undefined,
  });
  return { trustDomain, role: 'node', name, token, bundlePem };
}

/** One that a node may be about to use is not taken away from it. */
async function isStillGood(
  file: string,
  name: NodeName,
  { trustDomain, bundlePem, enrolment }: NodeInvitations,
): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw thrown;
  }
  let found: Invitation;
  try {
    found = parseInvitation(text, file);
  } catch (thrown) {
    // What cannot be read is written anew.
    if (thrown instanceof CollectiveError) return false;
    throw thrown;
  }
  const isOurs =
    found.trustDomain === trustDomain && found.name === name && found.bundlePem.trim() === bundlePem.trim();
  return isOurs && (await enrolment.isUsable(found.token));
}
