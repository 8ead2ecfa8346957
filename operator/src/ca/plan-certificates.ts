/**
 * All certificates of a member, planned from a picture: its authority by generations (T6), its leaves (T1, T2) and the bundle
 * of roots that its peers pin (T4). Pure: what is decided here is done by others, and told in status before the next step.
 * Nothing is removed that the stored status still names.
 */
import { CollectiveError } from '@collective/base/errors';
import { bundleHash } from '@collective/protocol/tls/trust-set';
import type { CaState, CertificateSeen } from '../api/member.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Apply, PlannedCondition, PlannedEvent, Removal } from '../member/plan-types.ts';
import { adoptAuthority } from './adopt-authority.ts';
import { type CaSettings, caSettingsOf } from './ca-settings.ts';
import { certificateNames, generationOf } from './certificate-names.ts';
import type { CertificatePicture, CertificatePlan } from './certificate-picture.ts';
import { type AuthoritySeen, inspectAuthority } from './inspect-authority.ts';
import { inspectLeaf } from './inspect-leaf.ts';
import { isIssuing, nextAttemptMs } from './issuing-condition.ts';
import { buildAuthorityCertificate } from './manifests/certificate.ts';
import { buildAuthorityIssuer, buildSelfSignedIssuer } from './manifests/issuer.ts';
import { buildTrustConfigMap } from './manifests/trust-config-map.ts';
import { canIssue, type GenerationStep, planGenerations } from './plan-generations.ts';
import { apply, clashingLeaves, type LeavesPlan, planLeaves, removal } from './plan-leaves.ts';
import { collectRoots, publishedRoots, type Root, rootsOf } from './roots.ts';
import { someOf } from './some-of.ts';

/** A step that can go on goes on; the status is stored in between. */
const AT_ONCE_MS = 10;
const AGAIN_MS_MAX = 3_600_000;

export function planCertificates(picture: CertificatePicture): CertificatePlan {
  const { member, nowMs, trustDomain } = picture;
  let settings: CaSettings;
  try {
    settings = caSettingsOf(member, trustDomain);
  } catch (thrown) {
    if (!(thrown instanceof CollectiveError)) throw thrown;
    return nothing(picture, { status: 'False', reason: 'InvalidAuthoritySettings', message: thrown.message });
  }
  const unsupported = unsupportedBecause(picture);
  const stored = member.status?.ca;
  const authorities = authoritiesOf(picture);
  if (unsupported !== undefined && stored === undefined) return nothing(picture, unsupported);

  const { ca: found, events: foundEvents } =
    stored === undefined ? adoptAuthority(picture, authorities) : { ca: stored, events: [] };
  const collected = collectRoots(picture);
  const rootsBefore = rootsOf(found.generations ?? [], collected);
  const clashing = clashingLeaves(picture);
  const leaves = new Map(
    picture.leaves
      .filter((wish) => !clashing.has(wish))
      .map((wish) => [wish.name, inspectLeaf(picture.secrets.get(wish.name), wish, rootsBefore, nowMs)]),
  );
  const step = planGenerations(found, { picture, settings, authorities, roots: rootsBefore, leaves });
  const roots = rootsOf(step.ca.generations ?? [], collected);
  const planned = planLeaves({
    picture,
    settings,
    ca: step.ca,
    leaves,
    canIssue: (one) => canIssue(one, authorities, nowMs),
  });
  const trust = planTrust(picture, roots);
  const authority = planAuthorityObjects(picture, settings, step.ca, authorities, unsupported === undefined);
  const stalled = unsupported ?? step.stalled;
  const againAtMs = Math.min(step.againAtMs ?? Number.POSITIVE_INFINITY, planned.againAtMs, authority.againAtMs);
  return {
    objects: [
      ...authority.objects,
      ...trust.objects,
      ...(picture.renewalPolicySupported === 'absent' ? [] : planned.objects),
    ],
    removals: [...trust.removals, ...authority.removals, ...planned.removals],
    renewals: [...authority.renewals, ...planned.renewals],
    ca: step.ca,
    certificates: [...planned.certificates, ...seenRoots(picture, roots)],
    ...(roots.length === 0 ? {} : { trustBundleHash: bundleHash(roots.map(({ certificate }) => certificate)) }),
    ...(planned.signer === undefined
      ? {}
      : { issuer: certificateNames(member.metadata.name).authority(planned.signer) }),
    roots: roots.map(({ certificate }) => certificate),
    ready: planned.ready,
    condition: stalled ?? conditionOf(step, planned),
    ...(stalled === undefined ? {} : { stalled }),
    events: [...foundEvents, ...step.events, ...trust.events, ...planned.events],
    ...(againAtMs === Number.POSITIVE_INFINITY
      ? {}
      : { requeueAfterMs: Math.min(Math.max(againAtMs - nowMs, AT_ONCE_MS), AGAIN_MS_MAX) }),
  };
}

function unsupportedBecause({ renewalPolicySupported }: CertificatePicture): PlannedCondition | undefined {
  if (renewalPolicySupported === 'absent')
    return {
      status: 'False',
      reason: 'CertManagerMissing',
      message:
        'This cluster has no cert-manager: install version 1.21 or later, then certificates are made by themselves',
    };
  if (!renewalPolicySupported)
    return {
      status: 'False',
      reason: 'CertManagerTooOld',
      message:
        'The cert-manager of this cluster knows no spec.renewal of Certificates and would renew authorities by itself, which leaves do not follow: upgrade it to version 1.21 or later',
    };
  return undefined;
}

/** What there is stays as it is; nothing begins. */
function nothing({ member }: CertificatePicture, stalled: PlannedCondition): CertificatePlan {
  const ca = member.status?.ca;
  return {
    objects: [],
    removals: [],
    renewals: [],
    ...(ca === undefined ? {} : { ca }),
    certificates: member.status?.certificates ?? [],
    ...(member.status?.trustBundleHash === undefined ? {} : { trustBundleHash: member.status.trustBundleHash }),
    roots: [],
    ready: new Set(),
    condition: stalled,
    stalled,
    events: [],
  };
}

function authoritiesOf({ member, secrets, trustDomain }: CertificatePicture): Map<number, AuthoritySeen> {
  const seen = new Map<number, AuthoritySeen>();
  for (const [name, secret] of secrets) {
    const generation = generationOf(member.metadata.name, name);
    if (generation !== undefined) seen.set(generation, inspectAuthority(secret, trustDomain));
  }
  return seen;
}

interface Part {
  readonly objects: readonly Apply[];
  readonly removals: readonly Removal[];
}

/**
 * The Certificate of a generation is written once. Its Issuer is there while its Secret holds what is on record: an Issuer over
 * another authority would sign leaves that nobody accepts.
 */
function planAuthorityObjects(
  picture: CertificatePicture,
  settings: CaSettings,
  ca: CaState,
  authorities: ReadonlyMap<number, AuthoritySeen>,
  mayCreate: boolean,
): Part & { readonly renewals: readonly string[]; readonly againAtMs: number } {
  const { member, namespace, trustDomain, nowMs, certificates, issuers } = picture;
  const names = certificateNames(member.metadata.name);
  const objects: Apply[] = [];
  const removals: Removal[] = [];
  const renewals: string[] = [];
  let againAtMs = Number.POSITIVE_INFINITY;
  if (picture.renewalPolicySupported !== 'absent')
    objects.push(apply(buildSelfSignedIssuer(member, namespace), issuers.get(names.selfSigned)));
  const write = (generation: number): void => {
    const name = names.authority(generation);
    if (!certificates.has(name) && mayCreate) {
      const certificate = buildAuthorityCertificate({ member, namespace, trustDomain, generation, settings });
      objects.push(apply(certificate, undefined));
    }
    objects.push(apply(buildAuthorityIssuer(member, namespace, generation), issuers.get(name)));
  };
  for (const one of ca.generations ?? []) {
    const issuer = issuers.get(names.authority(one.generation));
    if (canIssue(one, authorities, nowMs)) write(one.generation);
    else if (issuer !== undefined) removals.push(removal(RESOURCES.issuers, issuer));
  }
  if (ca.phase === 'Creating' && mayCreate) {
    const name = names.authority(ca.generation);
    const certificate = certificates.get(name);
    write(ca.generation);
    if (certificate !== undefined && authorities.get(ca.generation)?.state !== 'fit' && !isIssuing(certificate)) {
      const attemptMs = nextAttemptMs(certificate, nowMs);
      if (nowMs >= attemptMs) renewals.push(name);
      else againAtMs = attemptMs;
    }
  }
  return { objects, removals: [...removals, ...retiredAuthorities(picture, ca)], renewals, againAtMs };
}

/** Of generations that neither the stored status nor the next one names, and that were this trust domain's. */
function retiredAuthorities(picture: CertificatePicture, ca: CaState): readonly Removal[] {
  const { member, trustDomain, certificates, issuers, secrets } = picture;
  const stored = member.status?.ca;
  if (stored === undefined) return [];
  const named = new Set([...(stored.generations ?? []), ...(ca.generations ?? [])].map(({ generation }) => generation));
  const isRetired = (name: string): boolean => {
    const generation = generationOf(member.metadata.name, name);
    return (
      generation !== undefined && generation < Math.min(stored.generation, ca.generation) && !named.has(generation)
    );
  };
  const isOurs = (name: string): boolean => {
    const { subject } = (certificates.get(name)?.spec ?? {}) as { subject?: { organizations?: readonly string[] } };
    return certificates.has(name)
      ? subject?.organizations?.[0] === trustDomain
      : inspectAuthority(secrets.get(name), trustDomain).state !== 'unfit';
  };
  const retired = (objects: CertificatePicture['secrets'], resource: Removal['reference']['resource']): Removal[] =>
    [...objects].filter(([name]) => isRetired(name) && isOurs(name)).map(([, one]) => removal(resource, one));
  return [
    ...retired(issuers, RESOURCES.issuers),
    ...retired(certificates, RESOURCES.certificates),
    ...retired(secrets, RESOURCES.secrets),
  ];
}

/** The bundle is written from what status knows, never from what the ConfigMap says. */
function planTrust(
  picture: CertificatePicture,
  roots: readonly Root[],
): Part & { readonly events: readonly PlannedEvent[] } {
  const { member, namespace, configMaps } = picture;
  if (roots.length === 0) return { objects: [], removals: [], events: [] };
  const present = configMaps.get(certificateNames(member.metadata.name).trust);
  const hash = bundleHash(roots.map(({ certificate }) => certificate));
  const wasChanged =
    present !== undefined && member.status?.trustBundleHash === hash && bundleHash(publishedRoots(present)) !== hash;
  const events: PlannedEvent[] = wasChanged
    ? [
        {
          type: 'Warning',
          reason: 'TrustBundleRestored',
          message: `Somebody changed the ConfigMap ${present.metadata.name}; it is put right`,
        },
      ]
    : [];
  // Nothing but a new object can take the place of one that says of itself that it never changes.
  if (wasChanged && present.immutable === true)
    return { objects: [], removals: [removal(RESOURCES.configMaps, present)], events };
  const wanted = buildTrustConfigMap(
    member,
    namespace,
    roots.map(({ certificate }) => certificate),
  );
  return { objects: [apply(wanted, present)], removals: [], events };
}

function seenRoots({ member }: CertificatePicture, roots: readonly Root[]): readonly CertificateSeen[] {
  const names = certificateNames(member.metadata.name);
  return roots.map(({ generation, notAfterMs }) => ({
    name: names.authority(generation),
    notAfter: new Date(notAfterMs).toISOString(),
    generation,
  }));
}

function conditionOf({ ca, waits }: GenerationStep, { missing, ready }: LeavesPlan): PlannedCondition {
  if (missing.length > 0)
    return {
      status: 'False',
      reason: 'Issuing',
      message: `Not ready: ${someOf(missing)}${waits === '' ? '' : `; ${waits}`}`,
    };
  if (ca.phase !== 'Stable')
    return {
      status: ca.generations?.length === 0 ? 'False' : 'True',
      reason: `Rotation${ca.phase}`,
      message: `Generation ${ca.generation} of the authority: ${waits === '' ? 'the next step begins' : waits}`,
    };
  return { status: 'True', reason: 'Issued', message: `${ready.size} certificates under generation ${ca.generation}` };
}
