/** Names that other files, and other extensions, refer to; nothing acts here. */

import { Token } from '@lumino/coreutils';

import { IModel } from './model';

export const PLUGIN = 'nbmlops:plugin';
export const EVENT = 'https://nbmlops/changed';
export const COMM = 'nbmlops.ui';

/** The sections of the sidebar, in their order from the top. */
export const VIEWS = ['runs', 'models', 'deployments', 'monitor', 'jobs'] as const;
export type View = (typeof VIEWS)[number];

/** The kinds of pages in the main area. */
export const PAGES = ['comparison', 'run', 'model', 'endpoint', 'pipeline', 'job', 'monitor'] as const;
export type PageKind = (typeof PAGES)[number];

/** What a page is about: names of runs, of a model, an endpoint, a pipeline, a job or a table. */
export interface Subject {
  readonly kind: PageKind;
  readonly names: readonly string[];
}

/** Commands that are no verbs; a verb's command is `nbmlops:` and its name. */
export const Command = {
  open: 'nbmlops:open',
  page: 'nbmlops:page',
  refresh: 'nbmlops:refresh',
  trackCell: 'nbmlops:track-cell',
  runHeadless: 'nbmlops:run-headless',
  verb: (name: string): string => `nbmlops:${name}`
} as const;

/** The state of the sidebar, for extensions that want to follow it. */
export const IModelToken = new Token<IModel>('nbmlops:IModel', 'The project, its stores and what changes in them.');
