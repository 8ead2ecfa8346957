/** cert-manager's CertificateRequest for an approved request (T5). It is immutable, so one is made for each, by a name of its own. */

import { createHash } from 'node:crypto';
import type { ICertificateRequestSpec } from '@kubernetes-models/cert-manager/cert-manager.io/v1/CertificateRequestSpec';
import type { Member } from '../api/member.ts';
import { certificateLabels } from '../ca/certificate-names.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import { ownerOf } from '../member/shape.ts';

export interface CertificateRequestFacts {
  readonly member: Member;
  readonly namespace: string;
  readonly id: string;
  readonly csr: Uint8Array;
  readonly serves: boolean;
  readonly issuer: string;
  readonly duration: string;
}

/** The id of a request is the coordinator's; it may hold what no name may. Another CSR is another request. */
export function requestName(member: string, id: string, csr: Uint8Array): string {
  return `${member}-csr-${createHash('sha256').update(id).update('\n').update(csr).digest('hex').slice(0, 20)}`;
}

/** Those that cert-manager makes for Certificates carry the same labels. */
export function isRequestName(member: string, name: string): boolean {
  return name.startsWith(`${member}-csr-`) && /^[0-9a-f]{20}$/.test(name.slice(member.length + 5));
}

export function buildCertificateRequest(facts: CertificateRequestFacts): KubeObject {
  const { member, namespace, id, csr, serves, issuer, duration } = facts;
  const { apiVersion, kind } = RESOURCES.certificateRequests;
  const lines =
    Buffer.from(csr)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
  const spec: ICertificateRequestSpec = {
    request: Buffer.from(pem).toString('base64'),
    issuerRef: { group: 'cert-manager.io', kind: 'Issuer', name: issuer },
    isCA: false,
    duration,
    usages: serves ? ['digital signature', 'server auth', 'client auth'] : ['digital signature', 'client auth'],
  };
  return {
    apiVersion,
    kind,
    metadata: {
      name: requestName(member.metadata.name, id, csr),
      namespace,
      labels: certificateLabels(member),
      ownerReferences: [ownerOf(member)],
    },
    spec,
  };
}
