/**
 * cert-manager's Certificates of a member (T1, T2): an authority of one generation, held to the member's trust domain, and
 * leaves with one URI, for servers one DNS name within that domain, and no common name.
 */
import type { ICertificateSpec } from '@kubernetes-models/cert-manager/cert-manager.io/v1/CertificateSpec';
import { ANNOTATIONS } from '../../api/group.ts';
import type { Member } from '../../api/member.ts';
import type { KubeObject } from '../../kube/kube-object.ts';
import { RESOURCES } from '../../kube/resources.ts';
import { ownerOf } from '../../member/shape.ts';
import { type CaSettings, goDuration } from '../ca-settings.ts';
import { certificateLabels, certificateNames } from '../certificate-names.ts';
import type { LeafWish } from '../certificate-picture.ts';

/** Of cert-manager 1.21 and later. */
interface WithRenewal {
  readonly renewal?: { readonly policy: 'RenewBefore' | 'Disabled' };
}

export interface AuthorityFacts {
  readonly member: Member;
  readonly namespace: string;
  readonly trustDomain: string;
  readonly generation: number;
  readonly settings: CaSettings;
}

/**
 * K3: without an ownerReference. It is written once: cert-manager must never renew it, since leaves would not follow, and a
 * next authority is a next generation with another name (T6). Its common name fits the 64 characters of X.509 for any domain.
 */
export function buildAuthorityCertificate(facts: AuthorityFacts): KubeObject {
  const { member, namespace, trustDomain, generation, settings } = facts;
  const names = certificateNames(member.metadata.name);
  const name = names.authority(generation);
  const spec: ICertificateSpec & WithRenewal = {
    secretName: name,
    secretTemplate: { labels: certificateLabels(member) },
    issuerRef: { group: 'cert-manager.io', kind: 'Issuer', name: names.selfSigned },
    isCA: true,
    commonName: `${member.metadata.name} authority g${generation}`,
    subject: { organizations: [trustDomain] },
    duration: goDuration(settings.durationMs),
    privateKey: { algorithm: 'Ed25519', rotationPolicy: 'Never' },
    renewal: { policy: 'Disabled' },
    usages: ['cert sign', 'crl sign'],
    nameConstraints: { critical: true, permitted: { dnsDomains: [trustDomain], uriDomains: [trustDomain] } },
    revisionHistoryLimit: 1,
  };
  const annotations = { [ANNOTATIONS.caSettings]: settings.hash };
  return certificate({ name, namespace, labels: certificateLabels(member), annotations }, spec);
}

export interface LeafFacts {
  readonly member: Member;
  readonly namespace: string;
  readonly trustDomain: string;
  readonly wish: LeafWish;
  /** Name of the Issuer. */
  readonly issuer: string;
  readonly duration: string;
  readonly renewBefore: string;
}

export function buildLeafCertificate(facts: LeafFacts): KubeObject {
  const { member, namespace, trustDomain, wish, issuer, duration, renewBefore } = facts;
  const labels = certificateLabels(member);
  const spec: ICertificateSpec = {
    secretName: wish.name,
    secretTemplate: { labels },
    issuerRef: { group: 'cert-manager.io', kind: 'Issuer', name: issuer },
    subject: { organizations: [trustDomain] },
    uris: [wish.uri],
    ...(wish.dnsName === undefined ? {} : { dnsNames: [wish.dnsName] }),
    duration,
    renewBefore,
    privateKey: { algorithm: 'Ed25519', rotationPolicy: 'Always' },
    usages:
      wish.usages === 'server'
        ? ['digital signature', 'server auth', 'client auth']
        : ['digital signature', 'client auth'],
    revisionHistoryLimit: 1,
  };
  return certificate({ name: wish.name, namespace, labels, ownerReferences: [ownerOf(member)] }, spec);
}

function certificate(metadata: KubeObject['metadata'], spec: ICertificateSpec & WithRenewal): KubeObject {
  const { apiVersion, kind } = RESOURCES.certificates;
  return { apiVersion, kind, metadata, spec };
}
