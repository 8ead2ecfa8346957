/** `collective coordinator`: a member's coordinator alone. Settings come from flags, a YAML file and the environment. */
import { join, resolve } from 'node:path';
import { LOG_LEVELS, type LogLevel } from '@collective/base/log';
import type { Command } from 'commander';
import { parseMode } from '../mode.ts';
import { bindAddress, missingSetting } from '../settings/addresses.ts';
import { logLevel, runServer, serverCommand, settingsOf } from '../settings/server-command.ts';
import { type HostPort, hostPort, names, type Setting, text, truth } from '../settings/settings.ts';
import type { Shell } from '../shell.ts';
import { COLLECTIVE_DEFAULT, trustDomainFlag } from '../trust-domain-flag.ts';
import { PORT_BASE_DEFAULT } from '../up/layout.ts';
import { IDLE_WITHOUT_DATA } from '../verb.ts';
import { VERSION } from '../version.ts';

const COORDINATOR_SETTINGS = {
  member: {
    value: '<name>',
    summary: 'the member that it coordinates',
    parse: text,
    aliases: ['--member-id'],
  } as Setting<string | undefined>,
  collective: {
    value: '<name>',
    summary: `the collective of the member (default: ${COLLECTIVE_DEFAULT})`,
    parse: text,
  } as Setting<string | undefined>,
  data: {
    value: '<dir>',
    summary: 'folder for metadata, authority and certificates',
    parse: text,
    aliases: ['--data-dir'],
  } as Setting<string | undefined>,
  listen: {
    value: '<host:port>',
    summary: 'address for clients and nodes',
    parse: hostPort,
    aliases: ['--address'],
    default: { host: '', port: PORT_BASE_DEFAULT },
  } as Setting<HostPort>,
  healthListen: {
    value: '<host:port>',
    summary: 'plain HTTP for /livez, /readyz, /metrics',
    parse: hostPort,
  } as Setting<HostPort | undefined>,
  autoTls: {
    summary: 'make authority and certificate where there are none',
    parse: truth,
    default: false,
  } as Setting<boolean>,
  tls: {
    value: '<dir>',
    summary: 'folder with tls.crt, tls.key, trust.pem (default: DATA/tls)',
    parse: text,
  } as Setting<string | undefined>,
  expectData: {
    summary: 'refuse to start without the metadata of an earlier start: a lost volume is no new beginning',
    parse: truth,
    default: false,
  } as Setting<boolean>,
  rootMode: {
    value: '<mode>',
    summary: 'permission bits of the root directory that the first start makes (default: 755)',
    parse: parseMode,
  } as Setting<number | undefined>,
  inviteNodes: {
    value: '<names>',
    summary: 'nodes that start beside it: each that is not known yet finds an invitation in --invitations',
    parse: names,
  } as Setting<readonly string[] | undefined>,
  invitations: {
    value: '<dir>',
    summary: 'where invitations are laid, as NAME.invitation (default: DATA/invitations)',
    parse: text,
  } as Setting<string | undefined>,
  logLevel: { value: '<level>', summary: LOG_LEVELS.join(', '), parse: logLevel, default: 'info' } as Setting<LogLevel>,
} as const;

export function coordinatorCommand(shell: Shell): Command {
  return serverCommand(
    'coordinator',
    {
      summary: 'run a coordinator alone',
      description: `Settings come from flags, from the YAML file of --config (keys as below, in camelCase) and from the environment
variables named in brackets, in this order of strength. With --auto-tls the first start makes the member's authority
and writes a one-time token for an administrator (user/admin) to DATA/bootstrap-token.`,
      examples: [
        {
          line: 'collective coordinator --member alice --listen :8001 --data /srv/alice --auto-tls',
          says: 'the first start',
        },
        { line: 'collective coordinator --config coordinator.yaml', says: 'settings from a file' },
        {
          line: 'collective token bootstrap --data /srv/alice --advertise alice.example:8001 | collective init --invitation -',
          says: 'become its administrator',
        },
      ],
      idle: IDLE_WITHOUT_DATA,
    },
    COORDINATOR_SETTINGS,
  ).action(async (_options: unknown, command: Command) => {
    const settings = await settingsOf(shell, command, COORDINATOR_SETTINGS);
    if (settings.member === undefined) throw missingSetting('a coordinator', 'member');
    if (settings.data === undefined) throw missingSetting('a coordinator', 'data');
    const trustDomain = trustDomainFlag(settings.member, settings.collective);
    const dot = trustDomain.indexOf('.');
    const dataFolder = resolve(shell.cwd, settings.data);
    await runServer(shell, command, settings.logLevel, 'coordinator', async (log) => {
      const { startCoordinator } = await import('@collective/coordinator/main');
      return await startCoordinator({
        member: trustDomain.slice(0, dot),
        collective: trustDomain.slice(dot + 1),
        dataFolder,
        trustFolder: settings.tls === undefined ? undefined : resolve(shell.cwd, settings.tls),
        autoTls: settings.autoTls,
        expectData: settings.expectData,
        rootMode: settings.rootMode,
        inviteNodes:
          settings.inviteNodes === undefined
            ? undefined
            : {
                names: settings.inviteNodes,
                folder: resolve(shell.cwd, settings.invitations ?? join(dataFolder, 'invitations')),
              },
        listen: bindAddress(settings.listen),
        health: settings.healthListen === undefined ? undefined : bindAddress(settings.healthListen),
        version: VERSION,
        log,
      });
    });
  });
}
