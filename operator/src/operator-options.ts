/** What `collective-operator` is told by flags, and by the environment where a flag is not given. */
import { CollectiveError } from '@collective/base/errors';
import { LOG_LEVELS, type LogLevel } from '@collective/base/log';
import { Command, Option } from 'commander';
import type { PullPolicy } from './member/shape.ts';
import { LEASE_SECONDS } from './runtime/lease.ts';

export interface OperatorOptions {
  /** Empty: all. */
  readonly watchNamespaces: readonly string[];
  /** Of its Lease; absent: that of its account or kubeconfig. */
  readonly namespace: string | undefined;
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly networkPolicies: boolean;
  readonly leaderElect: boolean;
  readonly leaseDurationSeconds: number;
  readonly kubeconfig: string | undefined;
  readonly logLevel: LogLevel;
  /** Absent: nobody listens. */
  readonly healthListen: Listen | undefined;
  readonly metricsListen: Listen | undefined;
}

export interface Listen {
  readonly host: string;
  readonly port: number;
}

const PULL_POLICIES = ['IfNotPresent', 'Always', 'Never'] as const;

const EXAMPLES = `
Examples:
  collective-operator                                       in a pod: all namespaces, with a Lease
  collective-operator --watch-namespaces photos,music       only these
  collective-operator --kubeconfig ~/.kube/config --leader-elect false --image collective:0.1.0
                                                            from a desk, against a cluster for tests

Every flag is also an environment variable: --watch-namespaces is COLLECTIVE_OPERATOR_WATCH_NAMESPACES.
Exit codes: 0 stopped, 69 a part failed (the lease is lost, say), 70 a defect, 75 it did not stop in time.`;

export function operatorCommand(version: string, run: (options: OperatorOptions) => Promise<void>): Command {
  return new Command('collective-operator')
    .description('Makes running members of the objects Collective and Member of a Kubernetes cluster.')
    .version(version)
    .addOption(flag('--watch-namespaces <names>', 'namespaces, with commas between them; none: all', ''))
    .addOption(flag('--namespace <name>', 'namespace of the Lease; none: that of the account'))
    .addOption(flag('--image <image>', 'image of coordinators and nodes that name none').makeOptionMandatory())
    .addOption(flag('--image-pull-policy <policy>', PULL_POLICIES.join(', '), 'IfNotPresent').choices(PULL_POLICIES))
    .addOption(flag('--network-policies <true|false>', 'make NetworkPolicies for members', 'false'))
    .addOption(flag('--leader-elect <true|false>', 'one of several operators works, by a Lease', 'true'))
    .addOption(
      flag(
        '--lease-duration-seconds <n>',
        `how long a leader that is silent keeps the Lease, ${LEASE_SECONDS.min} to ${LEASE_SECONDS.max}`,
        String(LEASE_SECONDS.usual),
      ),
    )
    .addOption(
      flag('--kubeconfig <file>', 'how to reach the cluster; none: as kubectl does, or the account of the pod'),
    )
    .addOption(flag('--log-level <level>', LOG_LEVELS.join(', '), 'info').choices(LOG_LEVELS))
    .addOption(flag('--health-listen <host:port>', 'plain HTTP for /livez and /readyz; "off": none', ':8081'))
    .addOption(flag('--metrics-listen <host:port>', 'plain HTTP for /metrics; "off": none', ':8080'))
    .addHelpText('after', EXAMPLES)
    .allowExcessArguments(false)
    .action(async (given: Readonly<Record<string, string | undefined>>) => await run(optionsOf(given)));
}

function flag(flags: string, description: string, fallback?: string): Option {
  const variable = `COLLECTIVE_OPERATOR_${(/^--([a-z-]+)/.exec(flags)?.[1] ?? '').replaceAll('-', '_').toUpperCase()}`;
  const option = new Option(flags, description).env(variable);
  return fallback === undefined ? option : option.default(fallback);
}

function optionsOf(given: Readonly<Record<string, string | undefined>>): OperatorOptions {
  const text = (key: string): string | undefined => (given[key] === '' ? undefined : given[key]);
  return {
    watchNamespaces: (text('watchNamespaces') ?? '')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
    namespace: text('namespace'),
    image: text('image') ?? '',
    imagePullPolicy: PULL_POLICIES.find((policy) => policy === given.imagePullPolicy) ?? 'IfNotPresent',
    networkPolicies: truth('--network-policies', given.networkPolicies),
    leaderElect: truth('--leader-elect', given.leaderElect),
    leaseDurationSeconds: leaseSeconds(given.leaseDurationSeconds),
    kubeconfig: text('kubeconfig'),
    logLevel: LOG_LEVELS.find((level) => level === given.logLevel) ?? 'info',
    healthListen: listen('--health-listen', given.healthListen),
    metricsListen: listen('--metrics-listen', given.metricsListen),
  };
}

function truth(name: string, value = 'false'): boolean {
  if (value === 'true') return true;
  if (value === 'false') return false;
  throw new CollectiveError('config_invalid', `Read ${name} '${value}': it is true or false`);
}

function leaseSeconds(value = ''): number {
  const { min, max } = LEASE_SECONDS;
  const seconds = /^[0-9]+$/.test(value) ? Number(value) : Number.NaN;
  if (seconds >= min && seconds <= max) return seconds;
  throw new CollectiveError(
    'config_invalid',
    `Read --lease-duration-seconds '${value}': it is a whole number from ${min} to ${max}`,
  );
}

function listen(name: string, value = 'off'): Listen | undefined {
  if (value === 'off') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):([0-9]{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new CollectiveError('config_invalid', `Read ${name} '${value}': it is host:port, :port or off`);
  return { host: match[1] ?? match[2] ?? '', port };
}
