/**
 * The generations of a member's authority (T6). One step of a rotation at most is planned at a time, from what status says and
 * what objects show; each can be planned again, by another replica or after a restart, with the same result:
 *
 *   Creating      the next generation is made beside the present one
 *   Distributing  both roots are published; nobody shows a leaf of the new one until all who are connected have it, and for a
 *                 day where nothing but age is the cause, so that a laptop that is closed hears of it when it is opened
 *   Reissuing     leaves follow, some at a time
 *   Retiring      the old root stays until nobody needs it, absentees until `overlap` has passed
 *   Stable        one root
 *
 * An authority that lost its Secret, or has another certificate than the one on record, is followed by the next generation at
 * once, whatever the phase: the other certificate is never trusted, and the old root stays for the leaves that live under it.
 */
import { formatDurationMs } from '@collective/base/duration';
import { bundleHash } from '@collective/protocol/tls/trust-set';
import { ANNOTATIONS } from '../api/group.ts';
import type { CaGeneration, CaState } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import type { PlannedCondition, PlannedEvent } from '../member/plan-types.ts';
import type { CaSettings } from './ca-settings.ts';
import { certificateNames } from './certificate-names.ts';
import type { CertificatePicture } from './certificate-picture.ts';
import type { AuthoritySeen } from './inspect-authority.ts';
import type { LeafSeen } from './inspect-leaf.ts';
import { peersBehind, peersOnOtherRoots } from './peer-progress.ts';
import { publishedRoots, type Root } from './roots.ts';
import { bareFingerprint } from './secret-data.ts';
import { someOf } from './some-of.ts';

/** The bundle of a peer holds 16 roots; one place is for the generation that is being made. */
export const GENERATIONS_MAX = 15;

/** An authority that is merely old is not followed in a hurry: who comes once within a day is to find the member again. */
const ANNOUNCED_MS = 86_400_000;

export interface GenerationFacts {
  readonly picture: CertificatePicture;
  readonly settings: CaSettings;
  readonly authorities: ReadonlyMap<number, AuthoritySeen>;
  readonly roots: readonly Root[];
  readonly leaves: ReadonlyMap<string, LeafSeen>;
}

export interface GenerationStep {
  readonly ca: CaState;
  readonly events: readonly PlannedEvent[];
  /** What is waited for, for people; empty when nothing is. */
  readonly waits: string;
  readonly stalled?: PlannedCondition;
  /** When to look again, if nothing changes before. */
  readonly againAtMs?: number;
}

/** Whether leaves can be signed by this generation: its Secret holds what is on record. */
export function canIssue(
  { generation, fingerprint }: CaGeneration,
  authorities: ReadonlyMap<number, AuthoritySeen>,
  nowMs: number,
): boolean {
  const seen = authorities.get(generation);
  return seen?.state === 'fit' && seen.fingerprint === fingerprint && nowMs < seen.notAfterMs;
}

export function planGenerations(ca: CaState, facts: GenerationFacts): GenerationStep {
  const step = nextStep(ca, facts);
  return { ...step, ca: withEndOfOldRoots(step.ca, facts) };
}

function withEndOfOldRoots({ oldRootsUntil, ...ca }: CaState, { picture, settings }: GenerationFacts): CaState {
  if (ca.phase !== 'Retiring') return ca;
  return { ...ca, oldRootsUntil: iso(absenteesUntilMs(sinceMsOf(ca, picture.nowMs), settings)) };
}

/** A peer that is away longer has no leaf any more, or has to enrol again. */
function absenteesUntilMs(sinceMs: number, { overlapMs, leafDurationMs }: CaSettings): number {
  return sinceMs + Math.min(overlapMs, leafDurationMs);
}

function nextStep(ca: CaState, facts: GenerationFacts): GenerationStep {
  const known = withFoundRoots(ca, facts);
  if (known !== undefined) return known;
  if (ca.phase === 'Creating') return create(ca, facts);
  const [newest] = ca.generations ?? [];
  if (newest === undefined) return begin(ca, facts, 'it has no generation that is known');
  const lost = lostBecause(newest, facts);
  if (lost !== undefined) return begin(withoutUnused(ca, newest, facts), facts, lost, 'Warning');
  switch (ca.phase) {
    case 'Distributing':
      return distribute(ca, facts);
    case 'Reissuing':
      return reissue(ca, newest, facts);
    case 'Retiring':
      return retire(ca, newest, facts);
    case 'Stable':
      return rest(ca, newest, facts);
  }
}

/** A generation whose certificate lies nowhere any more cannot be published; no leaf can be told to live under it. */
function withFoundRoots(ca: CaState, { roots }: GenerationFacts): GenerationStep | undefined {
  const all = ca.generations ?? [];
  const left = all.filter(({ generation }) => roots.some((root) => root.generation === generation));
  if (left.length === all.length) return undefined;
  const gone = all.filter((one) => !left.includes(one)).map(({ generation }) => `g${generation}`);
  return {
    ca: { ...ca, generations: left },
    events: [
      event(
        'Warning',
        'RootLost',
        `The certificate of ${gone.join(', ')} lies nowhere any more; it is no longer trusted`,
      ),
    ],
    waits: '',
    againAtMs: 0,
  };
}

function rest(ca: CaState, newest: CaGeneration, facts: GenerationFacts): GenerationStep {
  const { picture, settings } = facts;
  const trigger = triggerOf(picture);
  const { ageAtMs, successorAtMs } = dueOf(newest, settings);
  if (trigger !== undefined && trigger !== ca.handledTrigger)
    return begin(ca, facts, `the annotation ${ANNOTATIONS.rotateCa} says '${trigger}'`);
  if (newest.specHash !== undefined && newest.specHash !== settings.hash)
    return begin(ca, facts, 'spec.ca has changed');
  if (picture.nowMs >= ageAtMs)
    return begin(ca, facts, `g${newest.generation} is older than ${formatDurationMs(settings.rotateAfterMs)}`);
  if (picture.nowMs >= successorAtMs) return begin(ca, facts, `g${newest.generation} ends on ${newest.notAfter}`);
  return { ca, events: [], waits: '', againAtMs: Math.min(ageAtMs, successorAtMs) };
}

/** When it is followed by the next one although nothing is wrong with it. */
function dueOf(
  { created, notAfter }: CaGeneration,
  { rotateAfterMs, successorBeforeMs }: CaSettings,
): { readonly ageAtMs: number; readonly successorAtMs: number } {
  return {
    ageAtMs: Date.parse(created) + rotateAfterMs,
    successorAtMs: Date.parse(notAfter) - successorBeforeMs,
  };
}

function begin(
  ca: CaState,
  { picture }: GenerationFacts,
  why: string,
  type: PlannedEvent['type'] = 'Normal',
): GenerationStep {
  const { nowMs, renewalPolicySupported } = picture;
  const wait = (reason: string, message: string): GenerationStep => ({
    ca,
    events: [],
    waits: '',
    stalled: { status: 'False', reason, message },
  });
  // Who calls says so in a condition of its own.
  if (renewalPolicySupported !== true) return { ca, events: [], waits: '' };
  if ((ca.generations ?? []).length >= GENERATIONS_MAX)
    return wait(
      'TooManyGenerations',
      `A next authority is needed (${why}), but ${GENERATIONS_MAX} earlier ones are still in use: find out who removes or changes the Secrets ${certificateNames(picture.member.metadata.name).authority(0).replace(/0$/, 'N')}`,
    );
  const generation = ca.generation + 1;
  return {
    ca: { ...ca, generation, phase: 'Creating', since: iso(nowMs), ...handled(picture) },
    events: [event(type, 'AuthorityRotationStarted', `Generation ${generation} of the authority begins: ${why}`)],
    waits: '',
    againAtMs: 0,
  };
}

function create(ca: CaState, { picture, settings, authorities }: GenerationFacts): GenerationStep {
  const { nowMs, member, trustDomain } = picture;
  const { generation } = ca;
  const name = certificateNames(member.metadata.name).authority(generation);
  const seen = authorities.get(generation) ?? { state: 'absent' };
  if (seen.state === 'unfit') {
    if (belongsElsewhere(picture.certificates.get(name), trustDomain))
      return {
        ca: { ...ca, generation: generation + 1, since: iso(nowMs) },
        events: [event('Normal', 'AuthorityPassedOver', `${name} belongs to another trust domain and is left alone`)],
        waits: '',
        againAtMs: 0,
      };
    const message = `The authority in the Secret ${name} cannot be trusted: ${seen.why}`;
    return { ca, events: [], waits: '', stalled: { status: 'False', reason: 'AuthorityUnfit', message } };
  }
  if (seen.state !== 'fit') return { ca, events: [], waits: `cert-manager issues the authority ${name}` };
  const made: CaGeneration = {
    generation,
    fingerprint: seen.fingerprint,
    notAfter: iso(seen.notAfterMs),
    created: iso(seen.notBeforeMs),
    specHash: settings.hash,
  };
  const earlier = ca.generations ?? [];
  const next = { ...ca, generations: [made, ...earlier], since: iso(nowMs) };
  if (earlier.length === 0)
    return {
      ca: { ...next, phase: 'Stable' },
      events: [event('Normal', 'AuthorityCreated', `Generation ${generation} of the authority is in use`)],
      waits: '',
      againAtMs: 0,
    };
  return {
    ca: { ...next, phase: 'Distributing' },
    events: [
      event(
        'Normal',
        'AuthorityDistributing',
        `The root of generation ${generation} is published beside the present one`,
      ),
    ],
    waits: '',
    againAtMs: 0,
  };
}

function distribute(ca: CaState, facts: GenerationFacts): GenerationStep {
  const { picture, settings, roots } = facts;
  const { nowMs, member, configMaps } = picture;
  if (roots.length === 1) return enter(ca, 'Reissuing', nowMs, []);
  const hash = bundleHash(roots.map(({ certificate }) => certificate));
  const published = publishedRoots(configMaps.get(certificateNames(member.metadata.name).trust));
  const sinceMs = sinceMsOf(ca, nowMs);
  // Without it nothing may go on, however long it is refused; that it is there is heard of at once.
  if (bundleHash(published) !== hash)
    return {
      ca,
      events: [],
      waits: 'the bundle is published',
      againAtMs: pollAtMs(nowMs, sinceMs, Number.POSITIVE_INFINITY),
    };
  const endMs = sinceMs + settings.overlapMs;
  const behind = peersBehind(picture, hash, sinceMs);
  if (behind === '') {
    const untilMs = announcedUntilMs(ca, sinceMs, facts);
    if (nowMs >= untilMs) return enter(ca, 'Reissuing', nowMs, []);
    return { ca, events: [], waits: `who comes until ${iso(untilMs)} is told of the new root`, againAtMs: untilMs };
  }
  if (nowMs >= endMs) return enter(ca, 'Reissuing', nowMs, [goingOn(`does not know the new root yet: ${behind}`)]);
  return { ca, events: [], waits: `peers take the new root: ${behind}`, againAtMs: pollAtMs(nowMs, sinceMs, endMs) };
}

/**
 * Who does not know the new root cannot tell the member from an impostor once its certificates are of it. An order, another spec
 * and a lost authority do not wait for such absentees; nor does one that leaves of full life would outlive.
 */
function announcedUntilMs(
  { generations = [] }: CaState,
  sinceMs: number,
  { picture: { nowMs }, settings, authorities }: GenerationFacts,
): number {
  const [, present] = generations;
  if (present === undefined || !canIssue(present, authorities, nowMs)) return sinceMs;
  const { ageAtMs, successorAtMs } = dueOf(present, settings);
  if (sinceMs < Math.min(ageAtMs, successorAtMs)) return sinceMs;
  const { overlapMs, leafDurationMs } = settings;
  return Math.min(sinceMs + Math.min(ANNOUNCED_MS, overlapMs), Date.parse(present.notAfter) - leafDurationMs);
}

function reissue(ca: CaState, newest: CaGeneration, { picture, settings, leaves }: GenerationFacts): GenerationStep {
  const { nowMs } = picture;
  const sinceMs = sinceMsOf(ca, nowMs);
  const old = [...leaves].filter(([, { generation }]) => generation !== undefined && generation !== newest.generation);
  if (old.length > 0)
    return {
      ca,
      events: [],
      waits: `${old.length} of ${leaves.size} certificates are issued anew: ${someOf(old.map(([name]) => name))}`,
      againAtMs: pollAtMs(nowMs, sinceMs, Number.POSITIVE_INFINITY),
    };
  const unchanged = peersOnOtherRoots(picture, newest.fingerprint, 'servers');
  const endMs = sinceMs + settings.overlapMs;
  if (unchanged === '') return enter(ca, 'Retiring', nowMs, []);
  if (nowMs >= endMs)
    return enter(ca, 'Retiring', nowMs, [goingOn(`still uses its earlier certificate: ${unchanged}`)]);
  return {
    ca,
    events: [],
    waits: `peers take their new certificates: ${unchanged}`,
    againAtMs: pollAtMs(nowMs, sinceMs, endMs),
  };
}

/**
 * T6: the old root goes when all who are connected know the bundle and use leaves of the new root, and its last leaf has
 * expired or `overlap` has passed for those who are away; at twice `overlap` at the latest. Never while a leaf of ours lives
 * under it.
 */
function retire(
  ca: CaState,
  newest: CaGeneration,
  { picture, settings, roots, leaves }: GenerationFacts,
): GenerationStep {
  const { nowMs } = picture;
  const sinceMs = sinceMsOf(ca, nowMs);
  const old = [...leaves].filter(([, { generation }]) => generation !== undefined && generation !== newest.generation);
  if (old.length > 0) return enter(ca, 'Reissuing', nowMs, []);
  const absenteesMs = absenteesUntilMs(sinceMs, settings);
  const endMs = sinceMs + 2 * settings.overlapMs;
  const hash = bundleHash(roots.map(({ certificate }) => certificate));
  const hindered = peersBehind(picture, hash, sinceMs) || peersOnOtherRoots(picture, newest.fingerprint, 'all');
  const due = roots.length === 1 || (nowMs >= absenteesMs && hindered === '');
  if (!due && nowMs < endMs)
    return {
      ca,
      events: [],
      waits:
        hindered === ''
          ? `the old root is trusted until ${iso(absenteesMs)} for peers that are away`
          : `peers still need the old root: ${hindered}`,
      againAtMs: hindered === '' ? absenteesMs : pollAtMs(nowMs, sinceMs, endMs),
    };
  const events = [
    ...(due ? [] : [goingOn(`has not followed and must enrol again: ${hindered}`)]),
    event('Normal', 'AuthorityRotated', `Generation ${newest.generation} of the authority alone is trusted`),
  ];
  return { ca: { ...ca, phase: 'Stable', since: iso(nowMs), generations: [newest] }, events, waits: '', againAtMs: 0 };
}

function enter(
  ca: CaState,
  phase: 'Reissuing' | 'Retiring',
  nowMs: number,
  before: readonly PlannedEvent[],
): GenerationStep {
  const said =
    phase === 'Reissuing'
      ? event('Normal', 'AuthorityReissuing', `Certificates are issued anew by generation ${ca.generation}`)
      : event(
          'Normal',
          'AuthorityRetiring',
          `All certificates are of generation ${ca.generation}; the old root is retired`,
        );
  return { ca: { ...ca, phase, since: iso(nowMs) }, events: [...before, said], waits: '', againAtMs: 0 };
}

/** A generation that nobody has a leaf of is forgotten at once: a rotation that is disturbed again and again stays small. */
function withoutUnused(ca: CaState, newest: CaGeneration, { picture, leaves }: GenerationFacts): CaState {
  const all = ca.generations ?? [];
  const isUsed =
    ca.phase !== 'Distributing' ||
    all.length === 1 ||
    [...leaves.values()].some(({ generation }) => generation === newest.generation) ||
    (picture.peers ?? []).some(({ rootFingerprint = '' }) => bareFingerprint(rootFingerprint) === newest.fingerprint);
  return isUsed ? ca : { ...ca, generations: all.slice(1) };
}

function lostBecause(
  { generation, fingerprint, notAfter }: CaGeneration,
  { picture, authorities }: GenerationFacts,
): string | undefined {
  const name = certificateNames(picture.member.metadata.name).authority(generation);
  const seen = authorities.get(generation) ?? { state: 'absent' };
  if (seen.state === 'absent') return `the Secret ${name} is gone`;
  if (seen.state !== 'fit') return `the Secret ${name} is damaged: ${seen.why}`;
  if (seen.fingerprint !== fingerprint) return `the Secret ${name} holds another certificate than the one on record`;
  return picture.nowMs >= seen.notAfterMs ? `g${generation} ended on ${notAfter}` : undefined;
}

function triggerOf({ member }: CertificatePicture): string | undefined {
  const value = member.metadata.annotations?.[ANNOTATIONS.rotateCa];
  return value === '' ? undefined : value;
}

/** A generation that begins for whatever reason answers the trigger as well. */
export function handled(picture: CertificatePicture): Pick<CaState, 'handledTrigger'> {
  const trigger = triggerOf(picture);
  return trigger === undefined ? {} : { handledTrigger: trigger };
}

function belongsElsewhere(certificate: KubeObject | undefined, trustDomain: string): boolean {
  const { subject } = (certificate?.spec ?? {}) as { subject?: { organizations?: readonly string[] } };
  const [organization] = subject?.organizations ?? [];
  return organization !== undefined && organization !== trustDomain;
}

/** Peers tell their progress to the coordinator, not to the apiserver, so it is asked: often at first, less as time goes by. */
function pollAtMs(nowMs: number, sinceMs: number, endMs: number): number {
  return Math.min(nowMs + Math.min(Math.max((nowMs - sinceMs) / 4, 1_000), 60_000), endMs);
}

function sinceMsOf({ since }: CaState, nowMs: number): number {
  return since === undefined ? nowMs : Date.parse(since);
}

function goingOn(what: string): PlannedEvent {
  return event(
    'Warning',
    'AuthorityRotationWaitEnded',
    `The rotation goes on after spec.ca.overlap, although a peer ${what}`,
  );
}

function event(type: PlannedEvent['type'], reason: string, message: string): PlannedEvent {
  return { type, reason, message };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
