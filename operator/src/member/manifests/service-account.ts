/** Pods of a member never speak to the apiserver: their account has no token and no role. */
import type { IServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import type { KubeObject } from '../../kube/kube-object.ts';
import { labelsOf, namesOf } from '../names.ts';
import type { MemberShape } from '../shape.ts';
import { raw } from './raw.ts';

export function serviceAccount({ namespace, member, collective, owner }: MemberShape): KubeObject {
  return raw({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: {
      name: namesOf(member).serviceAccount,
      namespace,
      labels: labelsOf({ member, collective }),
      ownerReferences: [{ ...owner }],
    },
    automountServiceAccountToken: false,
  } satisfies IServiceAccount);
}
