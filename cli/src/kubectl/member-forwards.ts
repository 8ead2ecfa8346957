/**
 * The way to a member that is not exposed: one forwarded port for its coordinator, and one for each node when it is first
 * dialled. Who is at the other end is proved by certificates, as everywhere (T2): the address counts for nothing.
 */
import { CollectiveError } from '@collective/base/errors';
import type { ReachNode } from '@collective/client';
import type { Shell } from '../shell.ts';
import type { Way } from '../way.ts';
import { KubeApi } from './kube-api.ts';
import { chooseCluster } from './kubeconfig.ts';
import { PodForward } from './pod-forward.ts';

export const COORDINATOR_PORT = 7420;

export interface KubernetesWay {
  readonly kubeconfig?: string;
  readonly context: string;
  readonly namespace: string;
  readonly member: string;
}

export class MemberForwards implements Way {
  readonly changes: Way['changes'];
  readonly #api: KubeApi;
  readonly #way: KubernetesWay;
  readonly #coordinator: PodForward;
  readonly #nodes = new Map<string, Promise<PodForward>>();

  static async open(shell: Shell, settings: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Way> {
    const way = wayOf(settings);
    const cluster = await chooseCluster(way, shell.env, shell.cwd);
    const api = new KubeApi({ cluster, clock: shell.clock });
    try {
      signal.throwIfAborted();
      const { namespace, member } = way;
      const pod = `${member}-coordinator-0`;
      const coordinator = await PodForward.open(api, { namespace, pod, port: COORDINATOR_PORT }).catch(
        (thrown: unknown) => {
          throw told(thrown, way);
        },
      );
      return new MemberForwards(api, way, coordinator);
    } catch (thrown) {
      api[Symbol.dispose]();
      throw thrown;
    }
  }

  private constructor(api: KubeApi, way: KubernetesWay, coordinator: PodForward) {
    this.#api = api;
    this.#way = way;
    this.#coordinator = coordinator;
    this.changes = { coordinator: `127.0.0.1:${coordinator.port}`, reachNode: this.#reachNode };
  }

  explain(thrown: unknown): unknown {
    if (!(thrown instanceof CollectiveError)) return thrown;
    const { code, message, cause, details } = thrown;
    // A rotation may have passed while nobody was connected from here (T6).
    if (code === 'unauthenticated') {
      const todo = `${commandOf(this.#way, 'context import')} brings certificate and roots of one of its users anew; who came in by a token needs another one.`;
      return new CollectiveError(code, message, { cause, details, todo });
    }
    const { lastFailure } = this.#coordinator;
    if ((code !== 'unavailable' && code !== 'deadline_exceeded') || lastFailure === undefined) return thrown;
    return told(
      new CollectiveError(lastFailure.code, message, { cause: lastFailure, todo: lastFailure.todo }),
      this.#way,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const nodes = await Promise.allSettled(this.#nodes.values());
    const forwards = nodes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    await Promise.all([this.#coordinator, ...forwards].map((forward) => forward[Symbol.asyncDispose]()));
    this.#api[Symbol.dispose]();
  }

  readonly #reachNode: ReachNode = async ({ name, port }) => {
    const known = this.#nodes.get(name);
    const { namespace, member } = this.#way;
    const opening = known ?? PodForward.open(this.#api, { namespace, pod: `${member}-${name}-0`, port });
    this.#nodes.set(name, opening);
    try {
      const forward = await opening;
      // The pod may be gone since: then its node is not reached, and whoever asks goes elsewhere at once.
      if (known !== undefined) await forward.probe();
      return { host: '127.0.0.1', port: forward.port };
    } catch (thrown) {
      if (known === undefined) this.#nodes.delete(name);
      throw told(thrown, this.#way);
    }
  };
}

function wayOf({ kubeconfig, context, namespace, member }: Readonly<Record<string, string>>): KubernetesWay {
  if (context === undefined || namespace === undefined || member === undefined) {
    throw new CollectiveError(
      'config_invalid',
      "Use 'via: kubernetes' of a context: context, namespace and member are needed",
      {
        todo: "'kubectl collective context import MEMBER' writes it anew.",
      },
    );
  }
  return { kubeconfig, context, namespace, member };
}

/** kubectl takes no flag before the name of a plugin. */
function commandOf({ namespace, member, context }: KubernetesWay, verb: string): string {
  return `'kubectl collective ${verb} ${member} -n ${namespace} --context ${context}'`;
}

/** The words of an apiserver, with what to do for a member. */
function told(thrown: unknown, way: KubernetesWay): unknown {
  if (!(thrown instanceof CollectiveError)) return thrown;
  const { code, message, cause, details } = thrown;
  const lookAt = commandOf(way, 'status');
  if (code === 'permission_denied') {
    const todo = `Ask for the rights 'create' and 'get' on pods/portforward in namespace ${way.namespace}, or have the member exposed.`;
    return new CollectiveError(code, message, { cause, details, todo });
  }
  if (code === 'not_found' && details.status === 404)
    return new CollectiveError('unavailable', message, {
      cause,
      details,
      todo: `${lookAt} says why the pod is missing.`,
    });
  if (code === 'unavailable' || code === 'invalid_argument')
    return new CollectiveError('unavailable', message, { cause, details, todo: `${lookAt} says how it is.` });
  return thrown;
}
