/** From a Member to a context of this person: which user, which Secret, which way. Pure. */
import { CollectiveError } from '@collective/base/errors';
import type { ContextSettings } from '@collective/client';
import { COORDINATOR_PORT } from './member-forwards.ts';
import type { MemberObject } from './member-object.ts';

export interface ImportWish {
  readonly user?: string;
  /** Unset: directly where the member has an address for the outside. */
  readonly via?: 'external' | 'port-forward';
  readonly kubernetes: { readonly context: string; readonly kubeconfig?: string };
}

export interface ImportPlan {
  readonly user: string;
  readonly secretName: string;
  readonly bundleName: string;
  readonly settings: ContextSettings & { readonly trustDomain: string };
}

export function planImport(member: MemberObject, wish: ImportWish): ImportPlan {
  const { metadata, spec, status } = member;
  const { name, namespace = 'default' } = metadata;
  const what = `Make a context of member ${name}`;
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
  const user = chosenUser(member, what, wish.user);
  return {
    user: user.name,
    secretName: user.secretName,
    bundleName: `${name}-trust`,
    settings: { trustDomain, ...wayTo(member, what, namespace, wish) },
  };
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

function wayTo({ metadata, status }: MemberObject, what: string, namespace: string, wish: ImportWish): ContextSettings {
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
