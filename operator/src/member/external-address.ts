/** What people outside the cluster dial for the coordinator and each node of an exposed member (D10). */
import type { KubeObject } from '../kube/kube-object.ts';
import { partOf } from '../kube/object-facts.ts';
import { PORTS } from './names.ts';
import type { MemberShape } from './shape.ts';

/** Of the machine that a pod runs on; the pod's environment has it. */
export const HOST_IP = '$(HOST_IP)';

export type ExternalAddress =
  | { readonly state: 'none' }
  /** The cluster has not said it yet. */
  | { readonly state: 'awaited' }
  | { readonly state: 'known'; readonly host: string; readonly port: number };

/** `part`: "coordinator" or the name of a node; `service`: its own. */
export function externalAddress(
  { exposure }: MemberShape,
  part: string,
  service: KubeObject | undefined,
): ExternalAddress {
  const said = exposure.addresses?.find(({ name }) => name === part);
  const port = said?.port ?? servicePort(exposure.type, part, service);
  if (said !== undefined) return port === undefined ? { state: 'awaited' } : { state: 'known', host: said.host, port };
  if (exposure.type === 'ClusterIP') return { state: 'none' };
  const host = exposure.type === 'LoadBalancer' ? balancerHost(service) : (exposure.advertised?.host ?? HOST_IP);
  return host === undefined || port === undefined ? { state: 'awaited' } : { state: 'known', host, port };
}

export function formatAddress({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}

function servicePort(
  type: MemberShape['exposure']['type'],
  part: string,
  service: KubeObject | undefined,
): number | undefined {
  if (type !== 'NodePort') return part === 'coordinator' ? PORTS.grpc : PORTS.bulk;
  const ports = partOf(service?.spec, 'ports');
  const nodePort = partOf(Array.isArray(ports) ? ports[0] : undefined, 'nodePort');
  return typeof nodePort === 'number' ? nodePort : undefined;
}

function balancerHost(service: KubeObject | undefined): string | undefined {
  const ingress = partOf(partOf(service?.status, 'loadBalancer'), 'ingress');
  const first: unknown = Array.isArray(ingress) ? ingress[0] : undefined;
  const host = partOf(first, 'hostname') ?? partOf(first, 'ip');
  return typeof host === 'string' ? host : undefined;
}
