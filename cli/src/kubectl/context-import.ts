/** From a Member to a context of this person: which user, which Secret or invitation, which way. Pure. */
import { CollectiveError } from '@collective/base/errors';
import type { ContextSettings } from '@collective/client';
import type { Invitation } from '@collective/protocol/tls/invitation';
import { COORDINATOR_PORT } from './member-forwards.ts';
import type { MemberObject } from './member-object.ts';

export interface ImportWish {
  readonly user?: string;
  /** Unset: directly where the member has an address for the outside. */
  readonly via?: 'external' | 'port-forward';
  readonly kubernetes: { readonly context: string; readonly kubeconfig?: string };
}

export type ContextOfMember = ContextSettings & { readonly coordinator: string; readonly trustDomain: string };

export interface ImportPlan {
  readonly user: string;
  readonly secretName: string;
  readonly bundleName: string;
  readonly settings: ContextOfMember;
}

export function planImport(member: MemberObject, wish: ImportWish): ImportPlan {
  const settings = contextOf(member, wish);
  const user = chosenUser(member, whatOf(member), wish.user);
  return { user: user.name, secretName: user.secretName, bundleName: `${member.metadata.name}-trust`, settings };
}

/** For somebody who has no Secret in the cluster, and a one-time token instead: the way alone is taken from the Member. */
export function planInvited(
  member: MemberObject,
  { role, trustDomain }: Pick<Invitation, 'role' | 'trustDomain'>,
  wish: Omit<ImportWish, 'user'>,
): ContextOfMember {
  const settings = contextOf(member, wish);
  if (trustDomain !== settings.trustDomain)
    throw new CollectiveError(
      'wrong_member',
      `${whatOf(member)}: the invitation is one to ${trustDomain}, and the member is ${settings.trustDomain}`,
    );
  if (role === 'node')
    throw new CollectiveError('invalid_argument', `${whatOf(member)}: the invitation is for a node`, {
      todo: "'collective node --invitation FILE' takes it.",
    });
  return settings;
}

const whatOf = ({ metadata }: MemberObject): string => `Make a context of member ${metadata.name}`;

function contextOf(member: MemberObject, wish: ImportWish): ContextOfMember {
  const { metadata, spec, status } = member;
  const { name, namespace = 'default' } = metadata;
  const what = whatOf(member);
  if (spec?.external !== undefined) {
    throw new CollectiveError('unsupported', `${what}: it lives outside this cluster`, {
      todo: "Whoever runs it gives you a token: 'collective init --token'.",
    });
  }
  const trustDomain = status?.trustDomain;
  if (trustDomain === undefined) {
    throw new CollectiveError('busy', `${what}: it has no trust domain yet`, {
      todo: `'kubectl collective status ${name}' says what it waits for.`,
    });
  }
  return { trustDomain, ...wayTo(member, what, namespace, wish) };
}

function chosenUser(member: MemberObject, what: string, wanted?: string): { name: string; secretName: string } {
  const { metadata, spec, status } = member;
  const users = spec?.users ?? [];
  const names = users.map(({ name }) => name);
  if (names.length === 0) {
    throw new CollectiveError('not_found', `${what}: it has no users`, {
      todo: "Add one to spec.users (a name, and 'admin: true' for administrators): the operator makes a certificate.",
    });
  }
  const found = wanted === undefined && users.length === 1 ? users[0] : users.find(({ name }) => name === wanted);
  if (found === undefined) {
    throw new CollectiveError(
      wanted === undefined ? 'invalid_argument' : 'not_found',
      wanted === undefined ? `${what}: it has several users` : `${what}: it has no user ${wanted}`,
      { todo: `Choose one by --user: ${names.join(', ')}.` },
    );
  }
  const seen = status?.users?.find(({ name }) => name === found.name)?.secretName;
  return { name: found.name, secretName: seen ?? found.secretName ?? `${metadata.name}-user-${found.name}` };
}

function wayTo(
  { metadata, status }: MemberObject,
  what: string,
  namespace: string,
  wish: ImportWish,
): Omit<ContextOfMember, 'trustDomain'> {
  const external = status?.endpoints?.external;
  if (external !== undefined && wish.via !== 'port-forward') return { coordinator: external, listener: 'external' };
  if (wish.via === 'external') {
    throw new CollectiveError('not_found', `${what}: it has no address outside the cluster`, {
      todo: 'Set spec.exposure, or leave --via away: then ports are forwarded.',
    });
  }
  const { name } = metadata;
  const { context, kubeconfig } = wish.kubernetes;
  const settings = { ...(kubeconfig === undefined ? {} : { kubeconfig }), context, namespace, member: name };
  return {
    coordinator: status?.endpoints?.internal ?? `${name}-coordinator.${namespace}.svc:${COORDINATOR_PORT}`,
    listener: 'internal',
    via: { kind: 'kubernetes', settings },
  };
}
