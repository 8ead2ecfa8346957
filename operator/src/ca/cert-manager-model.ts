/**
 * For tests only: what cert-manager and an apiserver do with a member's certificates, small enough to be run thousands of
 * times on a clock of its own. It issues real certificates; when and whether it issues is as in cert-manager's own trigger
 * policies: a Secret that is missing or damaged, another issuer or other names than before, the end of a life; hours of waiting
 * after a failure. `test/apiserver` has the real one.
 */
import { parseDurationMs } from '@collective/base/duration';
import { ScratchAuthority, type ScratchName } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import type { KubeObject, ObjectMeta } from '../kube/kube-object.ts';
import type { Apply, Removal } from '../member/plan-types.ts';
import { certificatesIn, keyFits, secretText, tlsPairOf } from './secret-data.ts';

const BACK_OFF_MS_FIRST = 3_600_000;
const BACK_OFF_MS_MAX = 32 * BACK_OFF_MS_FIRST;
const ISSUER_NAME = 'cert-manager.io/issuer-name';

interface CertificateSpec {
  readonly secretName: string;
  readonly secretTemplate?: { readonly labels?: Readonly<Record<string, string>> };
  readonly issuerRef: { readonly name: string };
  readonly isCA?: boolean;
  readonly duration: string;
  readonly renewBefore?: string;
  readonly renewal?: { readonly policy: string };
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly usages?: readonly string[];
}

interface Status {
  readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  readonly lastFailureTime?: string;
  readonly failedIssuanceAttempts?: number;
  readonly revision?: number;
}

export class CertManagerModel {
  readonly certificates = new Map<string, KubeObject>();
  readonly issuers = new Map<string, KubeObject>();
  readonly secrets = new Map<string, KubeObject>();
  readonly configMaps = new Map<string, KubeObject>();
  /** While set, every issuance fails. */
  failing = false;
  /** While set, it does nothing at all. */
  stopped = false;
  writes = 0;
  readonly #trustDomain: string;
  /** What the spec of a Certificate was when it was issued last. */
  readonly #issuedSpecs = new Map<string, string>();
  #count = 0;

  constructor(trustDomain: string) {
    this.#trustDomain = trustDomain;
  }

  apply({ object }: Apply, nowMs: number): void {
    const objects = this.#objects(object.kind);
    const { name, uid } = object.metadata;
    const present = objects.get(name);
    if (uid !== undefined && uid !== present?.metadata.uid) throw new Error(`conflict: ${object.kind} ${name}`);
    if (present?.immutable === true) throw new Error(`immutable: ${object.kind} ${name}`);
    const merged: KubeObject = { ...present, ...object, metadata: { ...present?.metadata, ...object.metadata } };
    if (present !== undefined && JSON.stringify(merged) === JSON.stringify(present)) return;
    this.writes++;
    this.#put(merged, nowMs, JSON.stringify(merged.spec) !== JSON.stringify(present?.spec));
  }

  remove({ reference, uid }: Removal): void {
    const objects = this.#objects(reference.resource.kind);
    if (objects.get(reference.name)?.metadata.uid !== uid) return;
    this.writes++;
    objects.delete(reference.name);
  }

  renew(name: string, nowMs: number): void {
    const certificate = this.certificates.get(name);
    if (certificate === undefined) return;
    this.writes++;
    this.#setStatus(certificate, { ...withIssuing(statusOf(certificate), true) }, nowMs);
  }

  /** Everything that cert-manager would do at this moment. */
  async turn(nowMs: number): Promise<void> {
    if (this.stopped) return;
    for (const certificate of [...this.certificates.values()]) await this.#look(certificate, nowMs);
  }

  async #look(certificate: KubeObject, nowMs: number): Promise<void> {
    const { name } = certificate.metadata;
    const spec = certificate.spec as CertificateSpec;
    const status = statusOf(certificate);
    const isAsked = (status.conditions ?? []).some((one) => one.type === 'Issuing' && one.status === 'True');
    const isOtherSpec = this.#issuedSpecs.get(name) !== issuedPart(spec);
    if (!isAsked && (!this.#mustIssue(certificate, nowMs) || (!isOtherSpec && backsOff(status, nowMs)))) return;
    const signer = await this.#signer(spec, nowMs);
    // A request to an issuer that is not ready is pending, which is no failure.
    if (signer === undefined) {
      this.#setStatus(certificate, withIssuing(status, true), nowMs);
      return;
    }
    if (this.failing) {
      const failed = {
        lastFailureTime: new Date(nowMs).toISOString(),
        failedIssuanceAttempts: (status.failedIssuanceAttempts ?? 0) + 1,
      };
      this.#issuedSpecs.set(name, issuedPart(spec));
      this.#setStatus(certificate, { ...withIssuing(status, false), ...failed }, nowMs);
      return;
    }
    const { pems, caPem } = await signer();
    this.#issuedSpecs.set(name, issuedPart(spec));
    this.putSecret(
      spec.secretName,
      { 'tls.crt': pems.certificatePem, 'tls.key': pems.keyPem, 'ca.crt': caPem },
      nowMs,
      {
        labels: spec.secretTemplate?.labels,
        annotations: { 'cert-manager.io/certificate-name': name, [ISSUER_NAME]: spec.issuerRef.name },
      },
    );
    this.#setStatus(
      certificate,
      { revision: (status.revision ?? 0) + 1, conditions: [{ type: 'Ready', status: 'True' }] },
      nowMs,
    );
  }

  #mustIssue({ metadata, spec: anySpec }: KubeObject, nowMs: number): boolean {
    const spec = anySpec as CertificateSpec;
    const secret = this.secrets.get(spec.secretName);
    const pair = secret === undefined ? undefined : tlsPairOf(secret);
    if (secret === undefined || pair === undefined || !pair.keyFits) return true;
    const { certificate } = pair;
    if (secret.metadata.annotations?.[ISSUER_NAME] !== spec.issuerRef.name) return true;
    if (this.#issuedSpecs.get(metadata.name) !== issuedPart(spec)) return true;
    if (spec.renewal?.policy === 'Disabled') return false;
    const lifeMs = certificate.validToDate.getTime() - certificate.validFromDate.getTime();
    return nowMs >= certificate.validToDate.getTime() - lifeMs / 3;
  }

  async #signer(
    spec: CertificateSpec,
    nowMs: number,
  ): Promise<(() => Promise<{ pems: { certificatePem: string; keyPem: string }; caPem: string }>) | undefined> {
    const issuer = this.issuers.get(spec.issuerRef.name)?.spec as
      | { readonly selfSigned?: object; readonly ca?: { readonly secretName: string } }
      | undefined;
    const dates = { notBefore: new Date(nowMs), notAfter: new Date(nowMs + parseDurationMs(spec.duration)) };
    const domain = parseTrustDomain(this.#trustDomain);
    if (issuer?.selfSigned !== undefined)
      return async () => {
        const made = await ScratchAuthority.create(domain, { generation: ++this.#count, ...dates });
        return { pems: { certificatePem: made.bundlePem, keyPem: made.keyPem }, caPem: made.bundlePem };
      };
    const secret = this.secrets.get(issuer?.ca?.secretName ?? '');
    const [root] = certificatesIn(secretText(secret, 'tls.crt'));
    const keyPem = secretText(secret, 'tls.key');
    if (root === undefined || !keyFits(root, keyPem)) return undefined;
    const authority = await ScratchAuthority.load(domain, { certificatePem: root.toString(), keyPem });
    const names: ScratchName[] = [
      ...(spec.uris ?? []).map((value) => ({ type: 'url' as const, value })),
      ...(spec.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ];
    const serverAuth = spec.usages?.includes('server auth') ?? false;
    return async () => ({ pems: await authority.leaf({ names, serverAuth, ...dates }), caPem: root.toString() });
  }

  putSecret(
    name: string,
    files: Readonly<Record<string, string>>,
    nowMs: number,
    metadata: Pick<ObjectMeta, 'labels' | 'annotations'> = {},
  ): void {
    const data = Object.fromEntries(
      Object.entries(files).map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
    );
    const present = this.secrets.get(name)?.metadata;
    this.#put({ apiVersion: 'v1', kind: 'Secret', metadata: { ...present, name, ...metadata }, data }, nowMs, false);
  }

  #setStatus(certificate: KubeObject, status: Status, nowMs: number): void {
    this.#put({ ...certificate, status }, nowMs, false);
  }

  #put(object: KubeObject, nowMs: number, isOtherSpec: boolean): void {
    const { metadata } = object;
    const kept: ObjectMeta = {
      ...metadata,
      uid: metadata.uid ?? `uid-${++this.#count}`,
      resourceVersion: String(++this.#count),
      generation: (metadata.generation ?? 0) + (isOtherSpec ? 1 : 0),
      creationTimestamp: metadata.creationTimestamp ?? new Date(nowMs).toISOString(),
    };
    this.#objects(object.kind).set(metadata.name, { ...object, metadata: kept });
  }

  #objects(kind: string): Map<string, KubeObject> {
    const found = {
      Certificate: this.certificates,
      Issuer: this.issuers,
      Secret: this.secrets,
      ConfigMap: this.configMaps,
    }[kind];
    if (found === undefined) throw new TypeError(`no objects of kind ${kind}`);
    return found;
  }
}

function statusOf({ status }: KubeObject): Status {
  return (status ?? {}) as Status;
}

function withIssuing(status: Status, isIssuing: boolean): Status {
  const others = (status.conditions ?? []).filter(({ type }) => type !== 'Issuing');
  return { ...status, conditions: [...others, { type: 'Issuing', status: isIssuing ? 'True' : 'False' }] };
}

function backsOff({ lastFailureTime, failedIssuanceAttempts = 1 }: Status, nowMs: number): boolean {
  if (lastFailureTime === undefined) return false;
  return (
    nowMs <
    Date.parse(lastFailureTime) + Math.min(BACK_OFF_MS_FIRST * 2 ** (failedIssuanceAttempts - 1), BACK_OFF_MS_MAX)
  );
}

/** Name constraints are not among it: cert-manager does not issue anew for them. */
function issuedPart({ issuerRef, isCA, duration, uris, dnsNames, usages }: CertificateSpec): string {
  return JSON.stringify({ issuer: issuerRef.name, isCA, duration, uris, dnsNames, usages });
}
