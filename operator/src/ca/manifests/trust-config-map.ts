/**
 * The bundle of roots that a member's peers pin (T4, T6), as the file `trust.pem` of a volume. It is also where the roots of
 * earlier generations are read from, whose Secrets may be gone; what is read there counts only if status knows its fingerprint.
 */
import type { X509Certificate } from 'node:crypto';
import { bundleHash } from '@collective/protocol/tls/trust-set';
import { ANNOTATIONS } from '../../api/group.ts';
import type { Member } from '../../api/member.ts';
import type { KubeObject } from '../../kube/kube-object.ts';
import { RESOURCES } from '../../kube/resources.ts';
import { ownerOf } from '../../member/shape.ts';
import { certificateLabels, certificateNames } from '../certificate-names.ts';

export const TRUST_FILE = 'trust.pem';

/** The present one first. */
export function buildTrustConfigMap(member: Member, namespace: string, roots: readonly X509Certificate[]): KubeObject {
  const { apiVersion, kind } = RESOURCES.configMaps;
  return {
    apiVersion,
    kind,
    metadata: {
      name: certificateNames(member.metadata.name).trust,
      namespace,
      labels: certificateLabels(member),
      annotations: { [ANNOTATIONS.trustBundleHash]: bundleHash(roots) },
      ownerReferences: [ownerOf(member)],
    },
    data: { [TRUST_FILE]: roots.map((root) => root.toString()).join('') },
  };
}
