/**
 * The operator of this tree in the lab's cluster, installed as a person would: by the chart, in a namespace of its own, for all
 * namespaces. A release that another run left behind is upgraded; its pods are new when the image's content is.
 */
import { join } from 'node:path';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { helm } from '@collective/hack/kind/lab';

export const OPERATOR_NAMESPACE = 'collective-system';
export const RELEASE = 'collective';
export const CHART = join(import.meta.dirname, '../../charts/collective');
const READY_WITHIN = '120s';

export interface HelmValues {
  readonly [name: string]: string;
}

export async function installOperator(values: HelmValues = {}, chart = CHART): Promise<void> {
  const { content } = await ensureProductImage(console.log);
  const settings = { 'operator.podAnnotations.content': content, ...values };
  await helm([
    'upgrade',
    '--install',
    RELEASE,
    chart,
    '--namespace',
    OPERATOR_NAMESPACE,
    '--create-namespace',
    '--wait',
    '--timeout',
    READY_WITHIN,
    ...Object.entries(settings).flatMap(([name, value]) => ['--set-string', `${name}=${value}`]),
  ]);
}
