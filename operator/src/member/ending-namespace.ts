/**
 * Whether the namespace of a Member is being deleted. Then nothing can be made in it any more, its pods go first, and all that a
 * policy would keep goes with it: waiting for anything would only hold the namespace up.
 */
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import { isDeleting } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';

export async function namespaceEnds(
  api: Pick<KubeApi, 'get'>,
  namespace: string,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const found = await api.get({ resource: RESOURCES.namespaces, namespace: '', name: namespace }, { signal });
    return found === undefined || isDeleting(found);
  } catch (thrown) {
    // Roles of an earlier chart do not give this right: the Member ends as in a namespace that stays.
    if (isKubeError(thrown) && thrown.status === 403) return false;
    throw thrown;
  }
}
