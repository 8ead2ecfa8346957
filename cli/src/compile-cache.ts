/**
 * What Node makes of our sources (types stripped, code compiled) is kept between runs, which halves the time of a short
 * command; so whatever else there is must be loaded after this. A cache that cannot be written is no error.
 */
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

const { env } = process;
enableCompileCache(join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'collective', 'compiled'));
