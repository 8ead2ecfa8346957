/** Which certificates the parts of a member need (T1, T2): a server's has one DNS name, a client's none. */
import type { LeafWish } from '../ca/certificate-picture.ts';
import { namesOf } from './names.ts';
import type { NodesPlan } from './plan-nodes.ts';
import type { MemberShape } from './shape.ts';

export function memberLeaves({ member, trustDomain, backup }: MemberShape, nodes: NodesPlan): LeafWish[] {
  const names = namesOf(member);
  const uri = (path: string): string => `spiffe://${trustDomain}/${path}`;
  return [
    {
      name: names.coordinatorTls,
      uri: uri('coordinator'),
      dnsName: `coordinator.${trustDomain}`,
      usages: 'server',
    },
    { name: names.operatorTls, uri: uri('operator'), usages: 'client' },
    ...nodes.nodes.map(
      ({ name }): LeafWish => ({
        name: names.nodeTls(name),
        uri: uri(`node/${name}`),
        dnsName: `${name}.node.${trustDomain}`,
        usages: 'server',
      }),
    ),
    ...(backup === undefined
      ? []
      : [{ name: names.backupTls, uri: uri(`user/${BACKUP_USER}`), usages: 'client' } as const]),
  ];
}

/** No name of a person: those have no dots. */
export const BACKUP_USER = 'backup.operator';
