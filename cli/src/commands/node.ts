/**
 * `collective node`: a storage node alone. Its settings come from flags, a YAML file and the environment; its identity
 * lies in DIR/tls and is made by enrolment with a one-time token where there is none (T3).
 */
import { readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { parseByteSize } from '@collective/base/byte-size';
import { sleep } from '@collective/base/clock';
import { fileError } from '@collective/base/disk/file-error';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import type { TrustDomain } from '@collective/base/ids';
import { LOG_LEVELS, type Log } from '@collective/base/log';
import type { Command } from 'commander';
import { parseNamedToken, requireCertificate, trustDomainOfBundle } from '../enrolment-token.ts';
import { bindAddress, missingSetting } from '../settings/addresses.ts';
import { type Advertised, advertised } from '../settings/advertised.ts';
import { logLevel, runServer, serverCommand, settingsOf } from '../settings/server-command.ts';
import { type HostPort, hostPort, type Setting, text, truth } from '../settings/settings.ts';
import type { Shell } from '../shell.ts';
import { trustDomainFlag } from '../trust-domain-flag.ts';
import { IDLE_WITHOUT_DATA } from '../verb.ts';
import { VERSION } from '../version.ts';

const NODE_SETTINGS = {
  coordinator: { value: '<host:port>', summary: 'the coordinator of the member', parse: hostPort } as Setting<
    HostPort | undefined
  >,
  data: {
    value: '<dir>',
    summary: 'folder for chunks and certificates',
    parse: text,
    aliases: ['--data-dir'],
  } as Setting<string | undefined>,
  capacity: { value: '<size>', summary: 'room that it gives, e.g. 500GB', parse: parseByteSize } as Setting<
    number | undefined
  >,
  listen: {
    value: '<host:port>',
    summary: 'address for chunk bytes',
    parse: hostPort,
    aliases: ['--address'],
    default: { host: '', port: 7431 },
  } as Setting<HostPort>,
  advertise: {
    value: '<list>',
    summary: 'how others reach it: host, host:port, or internal=...,external=...',
    parse: advertised,
  } as Setting<readonly Advertised[] | undefined>,
  healthListen: {
    value: '<host:port>',
    summary: 'plain HTTP for /livez, /readyz, /metrics',
    parse: hostPort,
  } as Setting<HostPort | undefined>,
  zone: { value: '<label>', summary: 'replicas are spread over zones', parse: text } as Setting<string | undefined>,
  reserve: { value: '<size>', summary: 'room of the capacity that stays free', parse: parseByteSize } as Setting<
    number | undefined
  >,
  tls: {
    value: '<dir>',
    summary: 'folder with tls.crt, tls.key, trust.pem (default: DATA/tls)',
    parse: text,
  } as Setting<string | undefined>,
  name: {
    value: '<name>',
    summary: 'name to enrol under, as in the token',
    parse: text,
    aliases: ['--node-id'],
  } as Setting<string | undefined>,
  member: { value: '<name>', summary: 'member to enrol with', parse: text, aliases: ['--member-id'] } as Setting<
    string | undefined
  >,
  collective: { value: '<name>', summary: 'the collective of the member', parse: text } as Setting<string | undefined>,
  token: { value: '<token>', summary: 'one-time token to enrol with', parse: text, secret: true } as Setting<
    string | undefined
  >,
  caCert: { value: '<file>', summary: "the member's trust bundle, to enrol", parse: text } as Setting<
    string | undefined
  >,
  invitation: {
    value: '<file>',
    summary: 'an invitation to enrol with, in place of token and ca-cert; it is waited for',
    parse: text,
  } as Setting<string | undefined>,
  autoTls: {
    summary: 'enrol with the token where there is no certificate',
    parse: truth,
    default: true,
  } as Setting<boolean>,
  logLevel: { value: '<level>', summary: LOG_LEVELS.join(', '), parse: logLevel, default: 'info' } as Setting<
    (typeof LOG_LEVELS)[number]
  >,
} as const;

type NodeSettings = ReturnType<typeof settingsOf<typeof NODE_SETTINGS>> extends Promise<infer T> ? T : never;

const INVITATION_EVERY_MS = 500;
const ENROL_AGAIN_MS_MIN = 1_000;
const ENROL_AGAIN_MS_MAX = 15_000;
/** What another try may find changed. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'unavailable',
  'deadline_exceeded',
  'overloaded',
  'interrupted',
  'not_signed_yet',
  'shutting_down',
]);

export function nodeCommand(shell: Shell): Command {
  return serverCommand(
    'node',
    {
      summary: 'run a storage node alone',
      description: `Settings come from flags, from the YAML file of --config (keys as below, in camelCase) and from the environment
variables named in brackets, in this order of strength. Its name is the one in its certificate.`,
      examples: [
        {
          line: 'collective node --coordinator alice:7420 --capacity 500GB --data /mnt/disk --token T --ca-cert alice.pem',
          says: 'the first start: enrols',
        },
        {
          line: 'collective node --coordinator alice:7420 --capacity 500GB --data /mnt/disk --invitation attic.invitation',
          says: "the same with what 'collective token create --for node/attic --invitation' printed",
        },
        {
          line: 'collective node --coordinator alice:7420 --capacity 500GB --data /mnt/disk',
          says: 'every other start',
        },
        { line: 'collective node --config node.yaml', says: 'settings from a file' },
      ],
      idle: IDLE_WITHOUT_DATA.filter((flag) => flag !== 'coordinator'),
    },
    NODE_SETTINGS,
  ).action(async (_options: unknown, command: Command) => {
    const settings = await settingsOf(shell, command, NODE_SETTINGS);
    const { coordinator, data, capacity } = settings;
    if (coordinator === undefined) throw missingSetting('a node', 'coordinator');
    if (data === undefined) throw missingSetting('a node', 'data');
    if (capacity === undefined) throw missingSetting('a node', 'capacity');
    const folder = resolve(shell.cwd, data);
    const trustFolder = settings.tls === undefined ? join(folder, 'tls') : resolve(shell.cwd, settings.tls);
    await runServer(shell, command, settings.logLevel, 'node', async (log, stopping) => {
      if (!(await hasCertificate(trustFolder)))
        await enrolNode({ shell, settings, coordinator, trustFolder, log, stopping });
      const { startNode } = await import('@collective/node/main');
      return await startNode({
        trustFolder,
        coordinator: { host: coordinator.host || 'localhost', port: coordinator.port },
        dataFolder: join(folder, 'store'),
        capacityBytes: capacity,
        reserveBytes: settings.reserve,
        listen: bindAddress(settings.listen),
        advertise: settings.advertise ?? defaultAddresses(settings.listen.host),
        zone: settings.zone,
        health: settings.healthListen === undefined ? undefined : bindAddress(settings.healthListen),
        version: VERSION,
        log,
      });
    });
  });
}

/** One that is there and may not be looked at is not made anew. */
async function hasCertificate(trustFolder: string): Promise<boolean> {
  try {
    await stat(join(trustFolder, 'tls.crt'));
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw fileError(`Look for a certificate in ${trustFolder}`, cause);
  }
}

interface NodeEnrolment {
  readonly shell: Shell;
  readonly settings: NodeSettings;
  readonly coordinator: HostPort;
  readonly trustFolder: string;
  readonly log: Log;
  readonly stopping: AbortSignal;
}

/** Tries again while the coordinator cannot be reached: machines start in any order. */
async function enrolNode(enrolment: NodeEnrolment): Promise<void> {
  const { shell, coordinator, log, stopping } = enrolment;
  const once = await preparedEnrolment(enrolment);
  for (let waitMs = ENROL_AGAIN_MS_MIN; ; waitMs = Math.min(2 * waitMs, ENROL_AGAIN_MS_MAX)) {
    try {
      return await once();
    } catch (error) {
      stopping.throwIfAborted();
      if (!(error instanceof CollectiveError) || !PASSING.has(error.code)) throw error;
      log.warn({ coordinator: formatHostPort(coordinator), err: error, againInMs: waitMs }, 'not enrolled yet');
    }
    await sleep(shell.clock, waitMs, stopping);
  }
}

/** What is wrong with the settings is told before anything is tried. */
async function preparedEnrolment(enrolment: NodeEnrolment): Promise<() => Promise<void>> {
  const { shell, settings, coordinator, trustFolder, stopping } = enrolment;
  const { token, caCert, invitation } = settings;
  const { enrol } = await import('@collective/client');
  const enrolAs = async (invited: NodeInvitation): Promise<void> => {
    await enrol({
      coordinator: formatHostPort({ host: coordinator.host || 'localhost', port: coordinator.port }),
      trustDomain: invited.trustDomain,
      caPem: invited.bundlePem,
      token: invited.token,
      role: 'node',
      name: settings.name ?? invited.name ?? hostname().split('.')[0]?.toLowerCase() ?? 'node',
      credentials: trustFolder,
      signal: stopping,
    });
  };
  if (settings.autoTls && invitation !== undefined) {
    if (token !== undefined || caCert !== undefined)
      throw new CollectiveError(
        'config_invalid',
        'Start a node: give --invitation, or --token and --ca-cert, not both',
      );
    const file = resolve(shell.cwd, invitation);
    // Read at each try: who invites may start later, and write another one.
    return async () => await enrolAs(await awaitedInvitation(file, enrolment));
  }
  if (!settings.autoTls || token === undefined || caCert === undefined) {
    throw new CollectiveError(
      'unauthenticated',
      `Start a node without a certificate in ${trustFolder}: give --token and --ca-cert, or --invitation ('collective token create --for node/NAME' makes the token)`,
    );
  }
  const given = await readTokenAndBundle(shell, settings, token, caCert);
  return async () => await enrolAs(given);
}

interface NodeInvitation {
  readonly trustDomain: TrustDomain;
  readonly bundlePem: string;
  readonly token: string;
  readonly name?: string;
}

async function awaitedInvitation(file: string, { shell, log, stopping }: NodeEnrolment): Promise<NodeInvitation> {
  for (let tries = 0; ; tries++) {
    const text = await readFile(file, 'utf8').catch((thrown: unknown) => {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw fileError(`Read the invitation ${file}`, thrown);
    });
    if (text !== undefined) return await nodeInvitation(text, file);
    if (tries === 0) log.info({ file }, 'waiting for an invitation');
    await sleep(shell.clock, INVITATION_EVERY_MS, stopping);
  }
}

async function nodeInvitation(text: string, file: string): Promise<NodeInvitation> {
  const { parseInvitation } = await import('@collective/protocol/tls/invitation');
  const invitation = parseInvitation(text, file);
  if (invitation.role === 'node') return invitation;
  throw new CollectiveError(
    'token_invalid',
    `Start a node with the invitation ${file}: it is for ${invitation.role}/${invitation.name}`,
  );
}

async function readTokenAndBundle(
  shell: Shell,
  { member, collective }: NodeSettings,
  token: string,
  caCert: string,
): Promise<NodeInvitation> {
  const bundlePem = await readFile(resolve(shell.cwd, caCert), 'utf8').catch((cause: unknown) => {
    throw new CollectiveError('not_found', `Read --ca-cert ${caCert}`, { cause });
  });
  requireCertificate(bundlePem, `--ca-cert ${caCert}`);
  const trustDomain = member === undefined ? trustDomainOfBundle(bundlePem) : trustDomainFlag(member, collective);
  if (trustDomain === undefined) throw missingSetting('a node that has to enrol', 'member');
  const { secret, name } = parseNamedToken(token);
  return { trustDomain, bundlePem, token: secret, ...(name === undefined ? {} : { name }) };
}

function defaultAddresses(listenHost: string): readonly Advertised[] {
  const everywhere = listenHost === '' || listenHost === '0.0.0.0' || listenHost === '::';
  const host = everywhere ? hostname() : listenHost;
  return ['internal', 'external'].map((listener) => ({ listener, host }));
}
