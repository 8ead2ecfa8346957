/** The Secret of a leaf: whether a peer could use what is in it now, and under which root it lives. */

import type { X509Certificate } from 'node:crypto';
import { subjectNamesOf } from '@collective/protocol/tls/subject-names';
import type { KubeObject } from '../kube/kube-object.ts';
import type { LeafWish } from './certificate-picture.ts';
import type { Root } from './roots.ts';
import { isSignedBy, type TlsPair, tlsPairOf } from './secret-data.ts';

export interface LeafSeen {
  readonly state: 'absent' | 'broken' | 'good';
  /** For people; empty for a good one. */
  readonly why: string;
  /** Of the root that signed it, if it is one of ours. */
  readonly generation?: number;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

export function inspectLeaf(
  secret: KubeObject | undefined,
  wish: LeafWish,
  roots: readonly Root[],
  nowMs: number,
): LeafSeen {
  if (secret === undefined) return { state: 'absent', why: 'its Secret does not exist' };
  const pair = tlsPairOf(secret);
  if (pair === undefined) return { state: 'broken', why: 'its Secret holds no certificate' };
  const leaf = pair.certificate;
  const root = roots.find((candidate) => isSignedBy(leaf, candidate.certificate));
  const seen = {
    generation: root?.generation,
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
  };
  const why = brokenBecause(pair, wish, root, nowMs);
  return why === undefined ? { ...seen, state: 'good', why: '' } : { ...seen, state: 'broken', why };
}

function brokenBecause(
  { certificate: leaf, keyFits }: TlsPair,
  wish: LeafWish,
  root: Root | undefined,
  nowMs: number,
): string | undefined {
  if (!keyFits) return 'its key does not belong to its certificate';
  if (!hasNames(leaf, wish)) return `its names are not ${wish.uri} alone`;
  if (root === undefined) return 'no root of this member signed it';
  if (nowMs >= leaf.validToDate.getTime()) return `it expired on ${leaf.validToDate.toISOString()}`;
  if (nowMs >= root.notAfterMs) return `its root expired on ${new Date(root.notAfterMs).toISOString()}`;
  return undefined;
}

function hasNames(leaf: X509Certificate, { uri, dnsName }: LeafWish): boolean {
  try {
    const names = subjectNamesOf(leaf);
    return names.uri === uri && names.dnsName === dnsName;
  } catch {
    // Other kinds of names are wrong names.
    return false;
  }
}
