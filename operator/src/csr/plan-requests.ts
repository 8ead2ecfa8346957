/**
 * What is done for requests that the coordinator keeps (T5): a CertificateRequest against the authority that signs now, and
 * the certificate back once it is issued and holds just what was asked for. Objects of requests that are answered are removed.
 */
import { X509Certificate } from 'node:crypto';
import { serverDnsName } from '@collective/protocol/tls/spiffe-id';
import { subjectNamesOf } from '@collective/protocol/tls/subject-names';
import type { Member } from '../api/member.ts';
import { goDuration } from '../ca/ca-settings.ts';
import { isSignedBy } from '../ca/secret-data.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { conditionOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Apply, PlannedEvent, Removal } from '../member/plan-types.ts';
import { buildCertificateRequest, isRequestName, requestName } from './certificate-request.ts';
import type { CheckedKeptRequest } from './checked-requests.ts';

/** Approval is a matter of seconds; who waits for longer has switched it off. */
const APPROVED_WITHIN_MS = 60_000;
/** Requests of one member that cert-manager is given at the same time; the others wait. */
const REQUESTS_AT_ONCE_MAX = 32;
/** What cert-manager says is told by a watch; what the coordinator says is not. */
const WAITING_AGAIN_MS = 5_000;
const ANSWERED_AGAIN_MS = 1_000;

export interface RequestsPicture {
  readonly nowMs: number;
  readonly member: Member;
  readonly namespace: string;
  /** That the coordinator keeps unanswered. */
  readonly kept: readonly CheckedKeptRequest[];
  /** CertificateRequests of this member that carry its labels, by name. */
  readonly requests: ReadonlyMap<string, KubeObject>;
  /** Of `CertificatePlan`; undefined: nothing can be signed now. */
  readonly issuer: string | undefined;
  readonly leafDurationMs: number;
  readonly roots: readonly X509Certificate[];
}

export type RequestAnswer =
  | { readonly id: string; readonly certificatePem: string }
  | { readonly id: string; readonly refused: string };

export interface RequestsPlan {
  readonly objects: readonly Apply[];
  readonly removals: readonly Removal[];
  readonly answers: readonly RequestAnswer[];
  readonly events: readonly PlannedEvent[];
  /** Absent: nothing waits. */
  readonly requeueAfterMs?: number;
}

export const NO_REQUESTS: RequestsPlan = { objects: [], removals: [], answers: [], events: [] };

type Fit = Extract<CheckedKeptRequest, { state: 'fit' }>;

export function planRequests(picture: RequestsPicture): RequestsPlan {
  const { member, kept, requests } = picture;
  const nameOf = ({ id, csr }: Fit): string => requestName(member.metadata.name, id, csr);
  const fit = kept.filter((one) => one.state === 'fit');
  const open = new Set(fit.map(nameOf));
  const objects: Apply[] = [];
  const answers: RequestAnswer[] = kept.flatMap((one) =>
    one.state === 'refused' ? [{ id: one.id, refused: one.why }] : [],
  );
  const events: PlannedEvent[] = [];
  let free = REQUESTS_AT_ONCE_MAX - [...requests.keys()].filter((name) => open.has(name)).length;
  for (const one of fit) {
    const object = requests.get(nameOf(one));
    if (object === undefined) {
      if (picture.issuer === undefined || free-- <= 0) continue;
      objects.push({ resource: RESOURCES.certificateRequests, object: objectFor(one, picture.issuer, picture) });
      continue;
    }
    const answer = answerOf(one, object, picture.roots);
    if (answer !== undefined) answers.push(answer);
    // A request is immutable: for an authority that signs no more, another takes its place.
    else if (picture.issuer !== undefined && issuerOf(object) !== picture.issuer) open.delete(nameOf(one));
    else events.push(...waitingEvents(object, picture.nowMs));
  }
  const answered = [...requests].filter(([name]) => isRequestName(member.metadata.name, name) && !open.has(name));
  return {
    objects,
    removals: answered.map(([, one]) => removalOf(one)),
    answers,
    events,
    ...(kept.length === 0 ? {} : { requeueAfterMs: answers.length > 0 ? ANSWERED_AGAIN_MS : WAITING_AGAIN_MS }),
  };
}

function objectFor({ id, csr, peer }: Fit, issuer: string, picture: RequestsPicture): KubeObject {
  const { member, namespace, leafDurationMs } = picture;
  const serves = serverDnsName(peer) !== undefined;
  return buildCertificateRequest({ member, namespace, id, csr, serves, issuer, duration: goDuration(leafDurationMs) });
}

/** Undefined while cert-manager is at it. */
function answerOf(one: Fit, object: KubeObject, roots: readonly X509Certificate[]): RequestAnswer | undefined {
  const denied = conditionOf(object, 'Denied');
  if (denied?.status === 'True')
    return { id: one.id, refused: `cert-manager's approver denied it: ${denied.message ?? ''}` };
  const ready = conditionOf(object, 'Ready');
  if (ready?.reason === 'Failed' || conditionOf(object, 'InvalidRequest')?.status === 'True')
    return { id: one.id, refused: `cert-manager could not sign it: ${ready?.message ?? ''}` };
  const { certificate } = (object.status ?? {}) as { certificate?: string };
  // Without roots nothing can be said of it.
  if (ready?.status !== 'True' || certificate === undefined || roots.length === 0) return undefined;
  const pem = Buffer.from(certificate, 'base64').toString('utf8');
  const wrong = wrongBecause(pem, one, roots);
  return wrong === undefined
    ? { id: one.id, certificatePem: pem }
    : { id: one.id, refused: `what was signed is not what was asked for: ${wrong}` };
}

function wrongBecause(pem: string, { peer, publicKey }: Fit, roots: readonly X509Certificate[]): string | undefined {
  try {
    const leaf = new X509Certificate(pem);
    const names = subjectNamesOf(leaf);
    if (names.uri !== peer.uri || names.dnsName !== serverDnsName(peer)) return `its names are ${leaf.subjectAltName}`;
    if (!leaf.publicKey.export({ type: 'spki', format: 'der' }).equals(publicKey)) return 'its key is another';
    if (leaf.ca) return 'it is an authority';
    return roots.some((root) => isSignedBy(leaf, root)) ? undefined : 'no root of this member signed it';
  } catch {
    return 'it cannot be read';
  }
}

function waitingEvents(object: KubeObject, nowMs: number): readonly PlannedEvent[] {
  const sinceMs = Date.parse(object.metadata.creationTimestamp ?? '');
  if (conditionOf(object, 'Approved')?.status === 'True' || !(nowMs - sinceMs > APPROVED_WITHIN_MS)) return [];
  const { name, namespace = '', labels } = object.metadata;
  const message = `Nobody approves the CertificateRequest ${name}: cert-manager's own approver does unless it is switched off (disableAutoApproval); then cmctl approve -n ${namespace} ${name}, or let a policy approve those of ${labels?.['app.kubernetes.io/managed-by'] ?? 'the operator'}`;
  return [{ type: 'Warning', reason: 'RequestNotApproved', message }];
}

function issuerOf({ spec }: KubeObject): string {
  return ((spec ?? {}) as { issuerRef?: { name?: string } }).issuerRef?.name ?? '';
}

function removalOf({ metadata }: KubeObject): Removal {
  const { name, namespace = '', uid = '' } = metadata;
  return { reference: { resource: RESOURCES.certificateRequests, namespace, name }, uid };
}
