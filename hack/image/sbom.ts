// The bill of materials of the image in CycloneDX's JSON: every package with version, licence and checksum as
// package-lock.json has them, what needs what, and what lies below. It says nothing about when and where it was made, so the
// same tree gives the same bytes.

import type { Closure, NeededPackage } from './lock-closure.ts';

/** A package of the system in the base, as its own package manager names it. */
export interface SystemPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

export interface Materials {
  readonly version: string;
  readonly licence: string;
  readonly closure: Closure;
  /** Node itself, which is a package of the lock too. */
  readonly node: NeededPackage;
  /** The published image below, or what the base was made of here. */
  readonly base: string | { readonly distribution: string; readonly packages: readonly SystemPackage[] };
}

export function billOfMaterials({ version, licence, closure, node, base }: Materials): object {
  const root = `collective@${version}`;
  const npm = [...closure.packages, node];
  const below =
    typeof base === 'string'
      ? [{ type: 'container', name: base, 'bom-ref': base }]
      : base.packages.map((one) => systemComponent(one, base.distribution));
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: { type: 'container', name: 'collective', version, 'bom-ref': root, licenses: licences(licence) },
    },
    components: [
      ...closure.workspaces.map((one) => ({
        type: 'library',
        name: `@collective/${one.name}`,
        version: one.entry.version ?? version,
        'bom-ref': one.path,
        licenses: licences(one.entry.license ?? licence),
      })),
      ...npm.map(npmComponent),
      ...below,
    ],
    dependencies: [
      {
        ref: root,
        dependsOn: [
          ...closure.workspaces.map(({ path }) => path),
          node.path,
          ...below.map((component) => component['bom-ref']),
        ],
      },
      ...[...closure.workspaces, ...npm].map(({ path, needs }) => ({ ref: path, dependsOn: needs })),
    ],
  };
}

function npmComponent({ path, name, entry }: NeededPackage): object {
  const version = entry.version ?? '';
  return {
    type: 'library',
    name,
    version,
    purl: `pkg:npm/${name.replace(/^@/, '%40')}@${version}`,
    'bom-ref': path,
    ...(typeof entry.license === 'string' ? { licenses: licences(entry.license) } : {}),
    ...(entry.integrity === undefined ? {} : { hashes: [hash(entry.integrity)] }),
  };
}

function systemComponent({ name, version, architecture }: SystemPackage, distribution: string) {
  const [vendor = ''] = distribution.split('-', 1);
  const place = `pkg:deb/${vendor}/${encodeURIComponent(name)}@${encodeURIComponent(version)}`;
  const purl = `${place}?arch=${architecture}&distro=${distribution}`;
  return { type: 'library', name, version, purl, 'bom-ref': purl };
}

function licences(stated: unknown): object[] {
  const expression = String(stated);
  return [/\s/.test(expression) ? { expression } : { license: { id: expression } }];
}

/** npm's integrity is the name of an algorithm and a checksum in base64. */
function hash(integrity: string): object {
  const [algorithm = '', checksum = ''] = integrity.split('-');
  return {
    alg: algorithm.toUpperCase().replace('SHA', 'SHA-'),
    content: Buffer.from(checksum, 'base64').toString('hex'),
  };
}
