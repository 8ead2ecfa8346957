// The image of a cluster's nodes, made of Debian packages and of programs from Go modules: systemd, containerd and the
// kubelet, with the images of the control plane already in containerd's store. What a node must hold for kind (entrypoint,
// units, settings) is read from kind's own module while building; the few changes to it stand here.

import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { buildImage, buildProgramImage, imageExists, linkOrCopy, type ProgramImage, withContext } from './images.ts';
import { docker, labFolder, run } from './lab.ts';
import { findTools } from './tool-cache.ts';
import { KUBERNETES_VERSION, NODE_TOOLS } from './tools.ts';

/** Debian 12: its systemd is the last that boots on cgroup v1, and its containerd is what kind 0.30 knows. */
const DEBIAN = 'bookworm';
const PACKAGES = [
  'bash',
  'busybox-static',
  'ca-certificates',
  'conntrack',
  'containerd',
  'containernetworking-plugins',
  'curl',
  'ethtool',
  'fuse3',
  'iproute2',
  'iptables',
  'jq',
  'kmod',
  'mount',
  'nftables',
  'procps',
  'runc',
  'systemd',
  'util-linux',
];
/** What kubeadm of this Kubernetes asks for, whatever is really in it. */
const ETCD_TAG = '3.6.5-0';
const COREDNS_TAG = 'v1.12.1';
const PAUSE_TAG = '3.10.1';
const REGISTRY = 'registry.k8s.io';
const NODE_IMAGE = 'lab.test/node';
const CONTAINERD_WITHIN_MS = 30_000;

const MASQUERADE_UNIT = `[Unit]
Description=Masquerade pod traffic that leaves the pod network
[Service]
Type=oneshot
ExecStart=/usr/sbin/iptables -w -t nat -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE
[Install]
WantedBy=multi-user.target
`;

/** kube-proxy needs iptables and their libraries beside it. */
const IPTABLES_DOCKERFILE = (rootfs: string): string => `FROM ${rootfs} AS debian
RUN set -e; mkdir -p /o/usr/sbin /o/tmp /o/run /o/etc; \\
  programs="/usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack /usr/sbin/ip"; \\
  extensions=$(ls -d /usr/lib/*/xtables); cp --parents -rL $extensions /o; \\
  for file in $programs $extensions/*.so; do ldd $file | grep -o '/[^ ]*' | sort -u; done | sort -u | xargs cp --parents -Lt /o; \\
  for file in $programs; do cp -L $file /o/usr/sbin/; done; \\
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do \\
    ln -s xtables-nft-multi /o/usr/sbin/$name; done
FROM scratch
COPY --from=debian /o /
`;

const BUSYBOX_DOCKERFILE = (rootfs: string): string => `FROM ${rootfs} AS debian
RUN mkdir -p /o/bin /o/tmp /o/etc && cp /bin/busybox /o/bin/ && \\
  for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox /o/bin/$name; done
FROM scratch
COPY --from=debian /o /
CMD ["/bin/sh"]
`;

const NODE_DOCKERFILE = (rootfs: string): string => `FROM ${rootfs}
COPY files/ /
RUN set -e; \\
  find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete; \\
  rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* /lib/systemd/system/local-fs.target.wants/* \\
    /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl* \\
    /lib/systemd/system/basic.target.wants/*; \\
  echo ReadKMsg=no >> /etc/systemd/journald.conf; ln -sf "$(which systemd)" /sbin/init; \\
  ln -s /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2 /usr/local/bin/; \\
  mkdir -p /opt/cni /etc/kubernetes/manifests /etc/cni/net.d; cp -r /usr/lib/cni /opt/cni/bin; \\
  systemctl enable kubelet.service containerd.service undo-mount-hacks.service lab-masquerade.service; \\
  systemctl mask systemd-binfmt.service; \\
  ctr oci spec | jq '.hooks.createContainer |= [{"path":"/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' > /etc/containerd/cri-base.json
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]
`;

/** The tag of the node image, which is built when there is none of what the tree says now. */
export async function ensureNodeImage(say: (line: string) => void): Promise<string> {
  const folders = findTools(NODE_TOOLS);
  const sources = ['node-image.ts', 'images.ts', 'image/runc-fit.sh', 'manifests/pod-network.yaml'];
  const hash = createHash('sha256').update(JSON.stringify(folders));
  for (const source of sources) hash.update(readFileSync(join(import.meta.dirname, source)));
  const tag = `${NODE_IMAGE}:${KUBERNETES_VERSION}-${hash.digest('hex').slice(0, 12)}`;
  if (await imageExists(tag)) return tag;

  const rootfs = await ensureRootfs(say);
  const program = (name: (typeof NODE_TOOLS)[number]): string => join(folders[name], name);
  await withContext(async (empty) => {
    await buildImage('lab.test/iptables:1', IPTABLES_DOCKERFILE(rootfs), empty);
    await buildImage('lab.test/busybox:1', BUSYBOX_DOCKERFILE(rootfs), empty);
  });
  const images = programImages(program);
  for (const image of images) await buildProgramImage(image);
  say(`${images.length} images of the control plane built`);

  const base = `${tag}-empty`;
  await withContext(async (context) => {
    layOutNode(join(context, 'files'), folders.kind, program);
    await buildImage(base, NODE_DOCKERFILE(rootfs), context);
  });
  await preload(base, tag, ['lab.test/busybox:1', ...images.map((image) => image.tag)]);
  say(`node image ${tag} built`);
  await removeOthers(tag);
  return tag;
}

/** Each takes a gigabyte. Docker refuses to remove one whose nodes are there. */
async function removeOthers(tag: string): Promise<void> {
  const { stdout } = await docker(['image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', NODE_IMAGE]);
  const others = String(stdout)
    .split('\n')
    .filter((other) => other !== '' && other !== tag);
  for (const other of others) await docker(['image', 'rm', other], { mayFail: true });
}

function programImages(program: (name: (typeof NODE_TOOLS)[number]) => string): ProgramImage[] {
  const control = (['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const).map((name) => ({
    tag: `${REGISTRY}/${name}:${KUBERNETES_VERSION}`,
    programs: [program(name)],
  }));
  const own = (['pod-network', 'local-path-provisioner'] as const).map((name) => ({
    tag: `lab.test/${name}:1`,
    programs: [program(name)],
    entrypoint: [name],
  }));
  return [
    ...control,
    ...own,
    {
      tag: `${REGISTRY}/kube-proxy:${KUBERNETES_VERSION}`,
      programs: [program('kube-proxy')],
      from: 'lab.test/iptables:1',
    },
    { tag: `${REGISTRY}/etcd:${ETCD_TAG}`, programs: [program('etcd')] },
    { tag: `${REGISTRY}/coredns/coredns:${COREDNS_TAG}`, programs: [program('coredns')], entrypoint: ['coredns'] },
    { tag: `${REGISTRY}/pause:${PAUSE_TAG}`, programs: [program('pause')], entrypoint: ['pause'] },
  ];
}

/** Debian with all that a node needs of it, as an image; made once for each list of packages. */
async function ensureRootfs(say: (line: string) => void): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([DEBIAN, PACKAGES]))
    .digest('hex')
    .slice(0, 12);
  const tag = `lab.test/rootfs:${key}`;
  if (await imageExists(tag)) return tag;
  const known = await run('sh', ['-c', 'command -v debootstrap'], { mayFail: true });
  if (known.failed) throw new Error('debootstrap is missing: install it ("apt-get install debootstrap")');
  const folder = join(labFolder(), `rootfs-${key}`);
  if (!existsSync(join(folder, '.complete'))) {
    say(`installing Debian ${DEBIAN} into ${folder}`);
    rmSync(folder, { recursive: true, force: true });
    await run('debootstrap', ['--variant=minbase', `--include=${PACKAGES.join(',')}`, DEBIAN, folder]);
    const superfluous = 'var/cache/apt/* var/lib/apt/lists/* usr/share/{doc,man,locale,info}/* var/log/*.log';
    for (const pattern of superfluous.split(' ')) {
      for (const path of globSync(pattern, { cwd: folder })) rmSync(join(folder, path), { recursive: true });
    }
    writeFileSync(join(folder, '.complete'), '');
  }
  await execa('tar', ['-C', folder, '-c', '.'], { buffer: false }).pipe('docker', ['import', '-', tag]);
  rmSync(folder, { recursive: true, force: true });
  return tag;
}

function layOutNode(files: string, kindFolder: string, program: (name: (typeof NODE_TOOLS)[number]) => string): void {
  cpSync(join(kindFolder, 'files'), files, { recursive: true });
  for (const name of globSync('{kind/bin,usr/local/bin}/*', { cwd: files })) chmodSync(join(files, name), 0o755);

  const containerd = join(files, 'etc/containerd/config.toml');
  const settings = readFileSync(containerd, 'utf8');
  writeFileSync(
    containerd,
    replaceEach(
      replaceEach(settings, /pause:[\d.]+"/g, `pause:${PAUSE_TAG}"`),
      'restrict_oom_score_adj = false',
      'restrict_oom_score_adj = true',
    ),
  );
  const wrapper = join(files, 'usr/local/sbin/runc');
  mkdirSync(join(wrapper, '..'), { recursive: true });
  cpSync(join(import.meta.dirname, 'image/runc-fit.sh'), wrapper);
  chmodSync(wrapper, 0o755);
  for (const name of ['kubelet', 'kubeadm', 'kubectl'] as const) {
    linkOrCopy(program(name), join(files, 'usr/bin', name));
  }
  const manifests = join(files, 'kind/manifests');
  mkdirSync(manifests, { recursive: true });
  writeFileSync(join(files, 'kind/version'), KUBERNETES_VERSION);
  cpSync(join(import.meta.dirname, 'manifests/pod-network.yaml'), join(manifests, 'default-cni.yaml'));
  const storage = readFileSync(join(kindFolder, 'nodeimage/const_storage.go'), 'utf8');
  writeFileSync(join(manifests, 'default-storage.yaml'), storageManifest(storage));
  writeFileSync(join(files, 'etc/systemd/system/lab-masquerade.service'), MASQUERADE_UNIT);
}

/** The manifest of local-path-provisioner that kind holds as a constant, with images that are there. */
export function storageManifest(goSource: string): string {
  const text = /^const defaultStorageManifest = `\n([\s\S]*?)^`/m.exec(goSource)?.[1];
  if (text === undefined) throw new Error('kind holds its storage manifest elsewhere than this program expects');
  return replaceEach(
    replaceEach(text, /` \+ storageProvisionerImage \+ `/g, 'lab.test/local-path-provisioner:1'),
    /` \+ storageHelperImage \+ `/g,
    'lab.test/busybox:1',
  );
}

function replaceEach(text: string, what: string | RegExp, by: string): string {
  const replaced = text.replaceAll(what, by);
  if (replaced === text) throw new Error(`"${what}" is not in a file of kind any more: look what became of it`);
  return replaced;
}

/** Puts images into the node's containerd: their content only, which is unpacked where it is first used. */
async function preload(base: string, tag: string, images: readonly string[]): Promise<void> {
  const started = await docker([
    'run',
    '-d',
    '--security-opt=seccomp=unconfined',
    '--entrypoint=sleep',
    base,
    'infinity',
  ]);
  const container = String(started.stdout).trim();
  try {
    await docker(['exec', '-d', container, 'containerd']);
    const deadline = AbortSignal.timeout(CONTAINERD_WITHIN_MS);
    while ((await docker(['exec', container, 'ctr', 'version'], { mayFail: true })).failed) {
      if (deadline.aborted) throw new Error('containerd does not answer in the container that fills the node image');
      await sleep(200);
    }
    const load = ['ctr', '-n', 'k8s.io', 'images', 'import', '--all-platforms', '--no-unpack', '--digests', '-'];
    await execa('docker', ['save', ...images], { buffer: false }).pipe('docker', ['exec', '-i', container, ...load]);
    const stop = 'kill $(pidof containerd); while pidof containerd; do sleep 0.2; done; rm -rf /run/containerd /tmp/*';
    await docker(['exec', container, 'sh', '-c', stop]);
    await docker(['commit', '--change', 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]', container, tag]);
  } finally {
    await docker(['rm', '-f', container]);
  }
  await docker(['image', 'rm', '--no-prune', base], { mayFail: true });
}
