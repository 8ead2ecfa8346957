// `hack/node hack/kind/load-image.ts IMAGE...`: brings images of this machine's docker to every node of the cluster.

import { CLUSTER, kind } from './lab.ts';

export async function loadImages(tags: readonly string[]): Promise<void> {
  await kind(['load', 'docker-image', '--name', CLUSTER, ...tags]);
}

if (import.meta.main) {
  const tags = process.argv.slice(2);
  if (tags.length === 0) throw new Error('Name the images to load');
  await loadImages(tags);
  console.log(`loaded ${tags.join(', ')}`);
}
