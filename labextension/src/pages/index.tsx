/** Pages of the main area, one for each subject. */

import { DOMUtils, MainAreaWidget } from '@jupyterlab/apputils';
import * as React from 'react';

import { ViewWidget } from '../components/place';
import { icon } from '../icon';
import { Parts } from '../panel';
import { PageKind, Subject } from '../tokens';
import { plain } from '../words';
import { ComparisonPage } from './comparison';
import { EndpointPage } from './endpoint';
import { JobPage } from './job';
import { ModelPage } from './model';
import { MonitorPage } from './monitor';
import { PipelinePage } from './pipeline';
import { RunPage } from './run';

/** What every page is given. */
export interface PageProps {
  readonly names: readonly string[];
}

const PAGE: Readonly<Record<PageKind, React.FunctionComponent<PageProps>>> = {
  comparison: ComparisonPage,
  run: RunPage,
  model: ModelPage,
  endpoint: EndpointPage,
  pipeline: PipelinePage,
  job: JobPage,
  monitor: MonitorPage
};

/** A page's widget, and what it takes to open it again. */
export class Page extends MainAreaWidget<ViewWidget> {
  readonly key: string;

  constructor(
    parts: Parts,
    readonly subject: Subject,
    readonly folder: string
  ) {
    const { kind, names } = subject;
    const Content = PAGE[kind];
    super({ content: new ViewWidget(parts, () => <Content names={names} />, folder) });
    this.id = DOMUtils.createDomID();
    this.key = keyOf(subject, folder);
    this.addClass('nbm-Page');
    this.title.label = plain(kind === 'comparison' ? `${names.length} runs` : `${kind} ${short(names[0] ?? '')}`, 40);
    this.title.caption = plain(`${kind} ${names.join(', ')}`);
    this.title.icon = icon;
    this.title.closable = true;
  }
}

/** A run's id as far as people read it. */
function short(name: string): string {
  return /^[0-9a-f]{32}$/.test(name) ? name.slice(0, 8) : name;
}

/** What a page is found again by: one for each subject of each folder; names are in it, so no element has it. */
export function keyOf({ kind, names }: Subject, folder: string): string {
  return JSON.stringify([kind, folder, ...names]);
}
