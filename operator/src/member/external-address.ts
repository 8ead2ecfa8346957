/**
 * What people outside the cluster dial for the coordinator and each node of an exposed member (D10). A port of the cluster is
 * remembered in the status: a Service that was deleted is to come back under it, and no pod starts anew meanwhile.
 */
import type { MemberStatus } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { partOf } from '../kube/object-facts.ts';
import { PORTS } from './names.ts';
import type { MemberShape } from './shape.ts';

/** Of the machine that a pod runs on; the pod's environment has it. In brackets, since it may be one of IPv6. */
export const HOST_IP = '[$(HOST_IP)]';

export type ExternalAddress =
  | { readonly state: 'none' }
  /** The cluster has not said it yet. */
  | { readonly state: 'awaited' }
  | { readonly state: 'known'; readonly host: string; readonly port: number };

/** "coordinator" or the name of a node, and what is known of it. */
export interface ExposedPart {
  readonly part: string;
  readonly service: KubeObject | undefined;
  readonly before: MemberStatus | undefined;
}

export function externalAddress({ exposure }: MemberShape, exposed: ExposedPart): ExternalAddress {
  const { part, service } = exposed;
  const said = exposure.addresses?.find(({ name }) => name === part);
  const port = said?.port ?? servicePort(exposure.type, exposed);
  if (said !== undefined) return port === undefined ? { state: 'awaited' } : { state: 'known', host: said.host, port };
  if (exposure.type === 'ClusterIP') return { state: 'none' };
  const host = exposure.type === 'LoadBalancer' ? balancerHost(service) : (exposure.advertised?.host ?? HOST_IP);
  return host === undefined || port === undefined ? { state: 'awaited' } : { state: 'known', host, port };
}

/** That its Service has, or had before it was deleted. */
export function nodePortOf({ part, service, before }: ExposedPart): number | undefined {
  const state = part === 'coordinator' ? before?.coordinator : before?.nodes?.find(({ name }) => name === part);
  return givenNodePort(service) ?? state?.nodePort;
}

/** Undefined too for a Service that is none of the cluster's machines' ports. */
export function givenNodePort(service: KubeObject | undefined): number | undefined {
  const ports = partOf(service?.spec, 'ports');
  const nodePort = partOf(Array.isArray(ports) ? ports[0] : undefined, 'nodePort');
  return typeof nodePort === 'number' ? nodePort : undefined;
}

function servicePort(type: MemberShape['exposure']['type'], exposed: ExposedPart): number | undefined {
  if (type === 'NodePort') return nodePortOf(exposed);
  return exposed.part === 'coordinator' ? PORTS.grpc : PORTS.bulk;
}

function balancerHost(service: KubeObject | undefined): string | undefined {
  const ingress = partOf(partOf(service?.status, 'loadBalancer'), 'ingress');
  const first: unknown = Array.isArray(ingress) ? ingress[0] : undefined;
  const host = partOf(first, 'hostname') ?? partOf(first, 'ip');
  return typeof host === 'string' ? host : undefined;
}
