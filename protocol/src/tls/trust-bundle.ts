/**
 * How a member's roots get to its peers (T6). Whoever pins the old root is told the new one over a connection that the old
 * one has verified; it writes that into its own folder, and reports it with its next heartbeat or renewal. Folders that
 * somebody else keeps (a volume of Kubernetes) are theirs to change.
 */
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { TrustBundle } from '../gen/common.ts';
import { readTrustPems, type TrustFiles, writeTrustFiles } from './trust-files.ts';
import { bundleHash, parseBundle, parseTrustSet, type TrustSet } from './trust-set.ts';

/** What a peer reports of itself. */
export interface ReportedTrust {
  readonly bundleHash: string;
  /** Of the leaf that it has shown; unset: not known. */
  readonly rootFingerprint256?: string | undefined;
}

/** What the peer is to be told; undefined when it has everything. */
export function toldBundle(own: TrustSet, peer: ReportedTrust): TrustBundle | undefined {
  const hasBundle = peer.bundleHash === own.bundleHash;
  const hasLeaf = peer.rootFingerprint256 === undefined || peer.rootFingerprint256 === own.rootFingerprint256;
  if (hasBundle && hasLeaf) return undefined;
  return { bundlePem: own.bundlePem, bundleHash: own.bundleHash, signingRoot: own.rootFingerprint256 };
}

/** Whether the leaf is to be replaced because another root of the bundle signs now. */
export function isOfEarlierRoot(set: TrustSet, signingRoot: string): boolean {
  return (
    signingRoot !== set.rootFingerprint256 && set.roots.some(({ fingerprint256 }) => fingerprint256 === signingRoot)
  );
}

/**
 * Takes a bundle into use that came over a verified connection; true if it was written. Throws `unauthenticated` when it is
 * not what it says, or would leave the own leaf without a root: that one must be renewed first.
 */
export async function takeBundle(files: TrustFiles, told: TrustBundle): Promise<boolean> {
  if (told.bundleHash === files.current.bundleHash || (await isKeptByOthers(files.folder))) return false;
  const what = `a bundle for ${files.current.id.trustDomain}`;
  if (bundleHash(parseBundle(told.bundlePem, what)) !== told.bundleHash)
    throw new CollectiveError('unauthenticated', `Take ${what}: it is not the one that its hash names`);
  // As they are on the disk now: another process may just have renewed the leaf.
  const { certificatePem, keyPem } = await readTrustPems(files.folder);
  await writeTrustFiles(files.folder, parseTrustSet({ certificatePem, keyPem, bundlePem: told.bundlePem }, what));
  return await files.look();
}

/** A volume of Kubernetes: its `..data` is not a set that we have written. */
export async function isKeptByOthers(folder: string): Promise<boolean> {
  try {
    return !/^\.\.set-\d+$/.test(await readlink(join(folder, '..data')));
  } catch {
    // Plain files, which the next write takes over.
    return false;
  }
}
