/** cert-manager's Issuers of a member: the one that begins authorities, and one for each generation, which signs leaves. */
import type { IIssuerSpec } from '@kubernetes-models/cert-manager/cert-manager.io/v1/IssuerSpec';
import type { Member } from '../../api/member.ts';
import type { KubeObject } from '../../kube/kube-object.ts';
import { RESOURCES } from '../../kube/resources.ts';
import { certificateLabels, certificateNames } from '../certificate-names.ts';

/** K3: no ownerReference on what belongs to an authority; it outlives its Member when that says Retain. */
export function buildSelfSignedIssuer(member: Member, namespace: string): KubeObject {
  return issuer(certificateNames(member.metadata.name).selfSigned, member, namespace, { selfSigned: {} });
}

export function buildAuthorityIssuer(member: Member, namespace: string, generation: number): KubeObject {
  const name = certificateNames(member.metadata.name).authority(generation);
  return issuer(name, member, namespace, { ca: { secretName: name } });
}

function issuer(name: string, member: Member, namespace: string, spec: IIssuerSpec): KubeObject {
  const { apiVersion, kind } = RESOURCES.issuers;
  return { apiVersion, kind, metadata: { name, namespace, labels: certificateLabels(member) }, spec };
}
