/** The operator's own way to a test's apiserver; the test looks at what came of it through `ApiClient`. */
import { type Log, silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { HttpKubeApi, type HttpKubeApiOptions } from '@collective/operator/kube/http-kube-api';
import { KubeAccess } from '@collective/operator/kube/kube-access';
import type { KubeObject, ResourceKind } from '@collective/operator/kube/kube-object';
import type { Person, TestApiServer } from './test-apiserver.ts';

export const OPERATOR: Person = { user: 'operator', groups: ['system:masters'] };

export interface OperatorSide extends Partial<HttpKubeApiOptions> {
  readonly person?: Person;
  /** Another address of the server, e.g. a proxy's. */
  readonly url?: string;
  readonly log?: Log;
}

let files = 0;

export async function operatorApi(server: TestApiServer, side: OperatorSide = {}): Promise<HttpKubeApi> {
  const { person = OPERATOR, url, clock = new SystemClock(), log = silentLog, ...options } = side;
  const file = server.writeKubeconfig(`operator-side-${++files}`, await server.kubeconfigFor(person, url));
  return new HttpKubeApi(await KubeAccess.fromKubeconfig(file, { clock }), { clock, log, ...options });
}

export function configMap(namespace: string, name: string, data: Readonly<Record<string, string>>): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data };
}

export function namespaceNamed(name: string): KubeObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
}

/** A small kind of the tests with a status of its own; `collection.widgetDefinition` installs it. */
export const WIDGETS: ResourceKind = {
  apiVersion: 'test.collective.storage/v1',
  kind: 'Widget',
  plural: 'widgets',
  namespaced: true,
};

export const WIDGET_DEFINITION: KubeObject = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.test.collective.storage' },
  spec: {
    group: 'test.collective.storage',
    scope: 'Namespaced',
    names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { size: { type: 'integer', maximum: 9 } } },
              status: { type: 'object', properties: { seen: { type: 'integer' } } },
            },
          },
        },
      },
    ],
  },
};

export function widget(namespace: string, name: string, size: number): KubeObject {
  return { apiVersion: WIDGETS.apiVersion, kind: 'Widget', metadata: { namespace, name }, spec: { size } };
}
