/** What our copies are measured against, in the same run: the same bytes through a bare TLS socket, and to a plain file that is synced. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import type { TrustDomain } from '@collective/base/ids';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { secureContextOptions } from '@collective/protocol/tls/trust-files';

const MiB = 1024 * 1024;

/** Copies `bytes` through mutual TLS on loopback between two processes; 'send' from here, 'receive' to here. */
export async function bareTlsCopy(direction: 'send' | 'receive', block: Buffer, bytes: number): Promise<void> {
  const authority = await ScratchAuthority.create('bench.home' as TrustDomain);
  const user = await authority.peer('user', 'bench');
  const { certificatePem, keyPem, bundlePem } = await authority.peer('node', 'bare');
  const child = fork(new URL('./bare-tls.ts', import.meta.url));
  child.send({ pems: { certificatePem, keyPem, bundlePem }, mode: direction === 'send' ? 'receive' : 'send', bytes });
  const [port] = (await once(child, 'message')) as [number];
  const socket = connect({
    ...secureContextOptions(user),
    host: '127.0.0.1',
    port,
    checkServerIdentity: () => undefined,
  });
  await once(socket, 'secureConnect');
  try {
    if (direction === 'receive') {
      let left = bytes;
      const done = new Promise<void>((resolve) =>
        socket.on('data', (piece: Buffer) => {
          left -= piece.length;
          if (left <= 0) resolve();
        }),
      );
      socket.write('g');
      await done;
      return;
    }
    const ended = once(socket, 'data');
    for (let sent = 0; sent < bytes; sent += MiB) {
      const piece = block.subarray(sent % block.length, (sent % block.length) + MiB);
      await new Promise<void>((resolve, reject) => socket.write(piece, (error) => (error ? reject(error) : resolve())));
    }
    await ended;
  } finally {
    socket.destroy();
    child.kill();
    await once(child, 'exit');
  }
}

/** Copies a file of `bytes` from one process to another through mutual TLS, and syncs it there. Answers how long it took. */
export async function bareNodeCopy(block: Buffer, bytes: number): Promise<number> {
  const authority = await ScratchAuthority.create('bench.home' as TrustDomain);
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-copy-'));
  const children: ChildProcess[] = [];
  const startEnd = async (name: string, end: { end: 'source' } | { end: 'target'; port: number; bytes: number }) => {
    const { certificatePem, keyPem, bundlePem } = await authority.peer('node', name);
    const child = fork(new URL('./bare-node-copy.ts', import.meta.url));
    children.push(child);
    child.send({ ...end, pems: { certificatePem, keyPem, bundlePem }, path: join(folder, end.end) });
    return child;
  };
  try {
    await writeSynced(join(folder, 'source'), block, bytes);
    const [port] = (await once(await startEnd('from', { end: 'source' }), 'message')) as [number];
    const target = await startEnd('to', { end: 'target', port, bytes });
    await once(target, 'message');
    const began = performance.now();
    await once(target, 'message');
    return (performance.now() - began) / 1000;
  } finally {
    for (const child of children) {
      child.kill();
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true, force: true });
  }
}

/** Writes `bytes` to a plain file beside which the member has its data, and syncs it. */
export async function plainFileCopy(block: Buffer, bytes: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-plain-'));
  try {
    await writeSynced(join(folder, 'copy'), block, bytes);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function writeSynced(path: string, block: Buffer, bytes: number): Promise<void> {
  const file = await open(path, 'wx');
  try {
    for (let written = 0; written < bytes; written += block.length) await file.write(block);
    await file.datasync();
  } finally {
    await file.close();
  }
}
