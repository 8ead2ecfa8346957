/**
 * The leaves of a member: a Certificate for each that is wished for, by the generation that may sign now, and none for those
 * that are not. A leaf that is good stays under its root until its turn comes; one that nobody can use is issued anew at once,
 * by whatever generation can.
 */
import { parseDurationMs } from '@collective/base/duration';
import type { CaGeneration, CaState, CertificateSeen } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { isDeleting } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { isForeign } from '../member/foreign-objects.ts';
import type { Apply, PlannedEvent, Removal } from '../member/plan-types.ts';
import { type CaSettings, goDuration } from './ca-settings.ts';
import { certificateNames, generationOf } from './certificate-names.ts';
import type { CertificatePicture, LeafWish } from './certificate-picture.ts';
import type { LeafSeen } from './inspect-leaf.ts';
import { hasFailed, isIssuing, isUnseen, nextAttemptMs } from './issuing-condition.ts';
import { buildLeafCertificate } from './manifests/certificate.ts';

/** Leaves of one member that are issued anew at the same time, so that a mistake meets few. */
const MOVES_AT_ONCE_MAX = 8;
/** Annotation by cert-manager of a Secret that it writes. */
export const CERTIFICATE_NAME = 'cert-manager.io/certificate-name';

export interface LeafFacts {
  readonly picture: CertificatePicture;
  readonly settings: CaSettings;
  readonly ca: CaState;
  readonly leaves: ReadonlyMap<string, LeafSeen>;
  readonly canIssue: (generation: CaGeneration) => boolean;
}

export interface LeavesPlan {
  readonly objects: readonly Apply[];
  readonly removals: readonly Removal[];
  readonly renewals: readonly string[];
  readonly certificates: readonly CertificateSeen[];
  readonly ready: ReadonlySet<string>;
  /** "name: why", of leaves that cannot be mounted. */
  readonly missing: readonly string[];
  /** Generation that signs what is asked for now. */
  readonly signer?: number;
  readonly events: readonly PlannedEvent[];
  readonly againAtMs: number;
}

/** Wishes for a name that is taken, and why: by an authority, by an earlier wish, or by what is not this member's. */
export function clashingLeaves({ member, leaves, foreign }: CertificatePicture): ReadonlyMap<LeafWish, string> {
  const clashing = new Map<LeafWish, string>();
  const taken = new Set<string>();
  for (const wish of leaves) {
    const { name } = wish;
    const [other] = [RESOURCES.certificates, RESOURCES.secrets].filter((kind) => isForeign(foreign, kind, name));
    if (taken.has(name) || generationOf(member.metadata.name, name) !== undefined)
      clashing.set(wish, 'another certificate has this name');
    else if (other !== undefined)
      clashing.set(wish, `a ${other.kind} of this name is not this Member's: choose another spec.users[].secretName`);
    taken.add(name);
  }
  return clashing;
}

export function planLeaves(facts: LeafFacts): LeavesPlan {
  const { picture, leaves } = facts;
  const clashing = clashingLeaves(picture);
  const wishes = picture.leaves.filter((wish) => !clashing.has(wish));
  const signers = signersOf(facts);
  const moving = wishes.filter((wish) => isMoving(picture.certificates.get(wish.name), facts, leaves.get(wish.name)));
  let movesLeft = MOVES_AT_ONCE_MAX - moving.length;
  const objects: Apply[] = [];
  const renewals: string[] = [];
  let againAtMs = Number.POSITIVE_INFINITY;
  for (const wish of wishes) {
    const certificate = picture.certificates.get(wish.name);
    const seen = leaves.get(wish.name) ?? { state: 'absent', why: '' };
    const wanted = wantedLeaf(wish, seen, certificate, signers, facts);
    if (wanted === undefined) continue;
    const isMove = certificate !== undefined && differs(certificate, wanted.object);
    const mustWait = isMove && seen.state === 'good' && !wanted.urgent && movesLeft <= 0;
    if (mustWait) {
      objects.push(apply(keepingIssue(wanted.object, certificate), certificate));
      continue;
    }
    if (isMove && seen.state === 'good') movesLeft--;
    objects.push(apply(wanted.object, certificate));
    if (isMove || certificate === undefined) continue;
    const renewAtMs = renewalDueMs(
      certificate,
      seen,
      { ...wanted, hasFailed: hasMoveFailed(certificate, facts, seen) },
      picture.nowMs,
    );
    if (picture.nowMs >= renewAtMs) renewals.push(wish.name);
    else againAtMs = Math.min(againAtMs, renewAtMs);
  }
  const ready = new Set(wishes.filter(({ name }) => leaves.get(name)?.state === 'good').map(({ name }) => name));
  return {
    objects,
    removals: staleLeaves(picture),
    renewals,
    certificates: wishes.flatMap(({ name }) => seenCertificate(name, leaves.get(name))),
    ready,
    missing: [
      ...[...clashing].map(([{ name, uri }, why]) => `${name}: ${why} (wanted for ${uri})`),
      ...wishes
        .filter(({ name }) => !ready.has(name))
        .map(({ name }) => `${name}: ${leaves.get(name)?.why ?? 'it is new'}`),
    ],
    signer: signers.now,
    events: renewals.map((name) => healed(name, leaves.get(name))),
    againAtMs,
  };
}

interface Signers {
  /** Of what is asked for now; undefined when none can. */
  readonly now?: number;
  /** Of what cannot wait: also a generation whose root is not known everywhere yet. */
  readonly urgent?: number;
  /** All leaves are to be of this one. */
  readonly all?: number;
}

function signersOf({ ca, canIssue }: LeafFacts): Signers {
  const [newest, ...older] = ca.generations ?? [];
  if (newest === undefined) return {};
  if (ca.phase === 'Creating') {
    const now = [newest, ...older].find(canIssue)?.generation;
    return { now, urgent: now };
  }
  const newestCan = canIssue(newest) ? newest.generation : undefined;
  if (ca.phase === 'Distributing') {
    const now = older.find(canIssue)?.generation;
    return { now, urgent: now ?? newestCan };
  }
  return { now: newestCan, urgent: newestCan, all: newest.generation };
}

interface WantedLeaf {
  readonly object: KubeObject;
  readonly urgent: boolean;
  readonly canBeSigned: boolean;
}

function wantedLeaf(
  wish: LeafWish,
  seen: LeafSeen,
  certificate: KubeObject | undefined,
  signers: Signers,
  { picture, settings, ca, canIssue }: LeafFacts,
): WantedLeaf | undefined {
  const { member, namespace, trustDomain, nowMs } = picture;
  const present = certificate === undefined ? undefined : generationOf(member.metadata.name, issuerOf(certificate));
  const presentCan = (ca.generations ?? []).some((one) => one.generation === present && canIssue(one));
  const urgent = seen.state !== 'good' || (!presentCan && nowMs >= overdueMs(seen));
  // Who is connected holds a leaf that is still good: it need not show one that others cannot verify yet.
  const isConnected = (picture.peers ?? []).some(({ peer, connected }) => connected && peer === wish.uri);
  const rescuer = isConnected ? signers.now : signers.urgent;
  const generation = signers.all ?? (urgent ? (presentCan ? present : rescuer) : (present ?? signers.now)) ?? present;
  if (generation === undefined) return undefined;
  const issuer = certificateNames(member.metadata.name).authority(generation);
  const duration = goDuration(settings.leafDurationMs);
  const renewBefore = goDuration(settings.leafDurationMs / 3);
  const object = buildLeafCertificate({ member, namespace, trustDomain, wish, issuer, duration, renewBefore });
  const canBeSigned = (ca.generations ?? []).some((one) => one.generation === generation && canIssue(one));
  return { object, urgent, canBeSigned };
}

/** cert-manager renews at two thirds; half of the last third later it has failed to. */
function overdueMs({ notBeforeMs = 0, notAfterMs = 0 }: LeafSeen): number {
  return notAfterMs - (notAfterMs - notBeforeMs) / 6;
}

function renewalDueMs(
  certificate: KubeObject,
  seen: LeafSeen,
  { canBeSigned, hasFailed }: { readonly canBeSigned: boolean; readonly hasFailed: boolean },
  nowMs: number,
): number {
  if (!canBeSigned || isIssuing(certificate) || isUnseen(certificate)) return Number.POSITIVE_INFINITY;
  const attemptMs = nextAttemptMs(certificate, nowMs, seen.notBeforeMs);
  return seen.state === 'good' && !hasFailed ? Math.max(overdueMs(seen), attemptMs) : Math.max(attemptMs, nowMs - 1);
}

/** It is to be of another generation, and cert-manager gave up for hours: a rotation is not held up for so long. */
function hasMoveFailed(certificate: KubeObject, facts: LeafFacts, seen: LeafSeen): boolean {
  return isMoving(certificate, facts, seen) && hasFailed(certificate);
}

function isMoving(
  certificate: KubeObject | undefined,
  { picture, ca }: LeafFacts,
  seen: LeafSeen | undefined,
): boolean {
  if (certificate === undefined || seen?.state !== 'good') return false;
  if (isIssuing(certificate)) return true;
  const signer = generationOf(picture.member.metadata.name, issuerOf(certificate));
  return signer === ca.generation && seen.generation !== signer;
}

/** What makes cert-manager issue anew. */
function differs(certificate: KubeObject, wanted: KubeObject): boolean {
  return issuerOf(certificate) !== issuerOf(wanted) || durationMsOf(certificate) !== durationMsOf(wanted);
}

function keepingIssue(wanted: KubeObject, { spec }: KubeObject): KubeObject {
  const { issuerRef, duration, renewBefore } = spec as Record<string, unknown>;
  return { ...wanted, spec: { ...(wanted.spec as object), issuerRef, duration, renewBefore } };
}

function issuerOf({ spec }: KubeObject): string {
  return ((spec ?? {}) as { issuerRef?: { name?: string } }).issuerRef?.name ?? '';
}

function durationMsOf({ spec }: KubeObject): number {
  try {
    return parseDurationMs(((spec ?? {}) as { duration?: string }).duration ?? '');
  } catch {
    // What somebody else wrote there is not ours.
    return 0;
  }
}

/** K3: an object that is there is never created anew from an old picture. */
export function apply(object: KubeObject, present: KubeObject | undefined): Apply {
  const resource = Object.values(RESOURCES).find(
    ({ kind, apiVersion }) => kind === object.kind && apiVersion === object.apiVersion,
  );
  if (resource === undefined) throw new TypeError(`no resource of kind ${object.kind}`);
  const uid = present?.metadata.uid;
  return { resource, object: uid === undefined ? object : { ...object, metadata: { ...object.metadata, uid } } };
}

export function removal(resource: Removal['reference']['resource'], { metadata }: KubeObject): Removal {
  const { name, namespace = '', uid = '' } = metadata;
  return { reference: { resource, namespace, name }, uid };
}

/**
 * A Certificate of this name may be wanted again in a moment. A CertificateRequest of the earlier one that is still there would then be in
 * the way of its first one, which has the same name: cert-manager tries again after 1, 2, 4, ... 30 s.
 */
export function certificateRemoval(certificate: KubeObject): Removal {
  return { ...removal(RESOURCES.certificates, certificate), withDependents: true };
}

/** cert-manager leaves the Secret of a Certificate that is gone. */
function staleLeaves({ member, certificates, secrets, leaves }: CertificatePicture): readonly Removal[] {
  const wanted = new Set(leaves.map(({ name }) => name));
  const isStale = (name: string): boolean =>
    !wanted.has(name) && generationOf(member.metadata.name, name) === undefined;
  return [
    ...[...certificates]
      .filter(([name, one]) => isStale(name) && !isDeleting(one))
      .map(([, one]) => certificateRemoval(one)),
    ...[...secrets.values()]
      .filter(({ metadata: { name, annotations } }) => annotations?.[CERTIFICATE_NAME] === name && isStale(name))
      .map((one) => removal(RESOURCES.secrets, one)),
  ];
}

export function seenCertificate(name: string, seen: LeafSeen | undefined): readonly CertificateSeen[] {
  if (seen?.generation === undefined || seen.notAfterMs === undefined) return [];
  return [{ name, notAfter: new Date(seen.notAfterMs).toISOString(), generation: seen.generation }];
}

function healed(name: string, seen: LeafSeen | undefined): PlannedEvent {
  const why = seen?.state === 'good' ? 'cert-manager has not done so in time' : (seen?.why ?? '');
  return { type: 'Warning', reason: 'CertificateReissued', message: `The certificate ${name} is issued anew: ${why}` };
}
