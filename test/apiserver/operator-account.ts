/** The operator as the chart installs it: its ServiceAccount and its roles, for tests of what it does under real RBAC. */
import { until } from '../until.ts';
import { Helm, RELEASE_NAMESPACE } from './helm.ts';
import { Kubectl } from './kubectl.ts';
import type { Person, TestApiServer } from './test-apiserver.ts';

const ROLES_COUNT_WITHIN_MS = 30_000;
const RIGHTS = ['ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'];

export const OPERATOR_ACCOUNT: Person = {
  user: `system:serviceaccount:${RELEASE_NAMESPACE}:collective-operator`,
  groups: ['system:serviceaccounts', `system:serviceaccounts:${RELEASE_NAMESPACE}`, 'system:authenticated'],
};

/** The namespace of the release and the roles of the cluster mode; returns when they count. */
export async function grantOperatorRights(server: TestApiServer): Promise<void> {
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: RELEASE_NAMESPACE } });
  const rights = (await new Helm().render()).filter(({ kind }) => RIGHTS.includes(kind));
  for (const object of rights) await server.admin.apply(object, { strict: true });
  const kubectl = new Kubectl(server);
  // The authorizer hears of new roles a moment after they are stored.
  for (const what of [
    ['list', 'secrets', '--all-namespaces'],
    ['patch', 'leases.coordination.k8s.io/collective-operator', '-n', RELEASE_NAMESPACE],
  ]) {
    await until(
      async () => (await kubectl.ask('auth', 'can-i', ...what, '--as', OPERATOR_ACCOUNT.user)).startsWith('yes'),
      `the operator may ${what.join(' ')}`,
      ROLES_COUNT_WITHIN_MS,
    );
  }
}
