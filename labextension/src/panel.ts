/** The sidebar: a header, and a section for each view that can be folded away. */

import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { SidePanel } from '@jupyterlab/ui-components';
import { AccordionPanel, Widget } from '@lumino/widgets';
import * as React from 'react';

import { Actions } from './commands';
import { Header } from './components/header';
import { ViewWidget } from './components/place';
import { icon } from './icon';
import { Model } from './model';
import { View, VIEWS } from './tokens';
import { DeploymentsView } from './views/deployments';
import { JobsView } from './views/jobs';
import { ModelsView } from './views/models';
import { MonitorView } from './views/monitor';
import { RunsView } from './views/runs';

const SECTIONS: Readonly<Record<View, React.FunctionComponent>> = {
  runs: RunsView,
  models: ModelsView,
  deployments: DeploymentsView,
  monitor: MonitorView,
  jobs: JobsView
};
const N_OPEN = 2; // sections that are not folded away at first

export interface Parts {
  readonly model: Model;
  readonly actions: Actions;
  readonly rendermime: IRenderMimeRegistry;
}

/** The sidebar's widget. */
export class SidebarPanel extends SidePanel {
  constructor(private readonly parts: Parts) {
    super();
    this.id = 'nbmlops-sidebar';
    this.addClass('nbm-Sidebar');
    this.title.icon = icon;
    this.title.caption = 'MLOps: runs, models, deployments, drift, jobs';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'MLOps');
    this.header.addWidget(new ViewWidget(parts, Header));
    (this.content as AccordionPanel).expansionToggled.connect(this.share, this);
    parts.model.changed.connect(this.fold, this);
    this.fold();
  }

  /** Have these sections, in this order. */
  setSections(views: readonly View[]): void {
    const wanted = views.filter(view => VIEWS.includes(view));
    if (wanted.join() === [...this.sections.keys()].join()) {
      return;
    }
    this.sections.forEach(section => section.dispose());
    this.sections.clear();
    wanted.forEach((view, place) => {
      const section = new ViewWidget(this.parts, SECTIONS[view]);
      section.id = `nbmlops-${view}`;
      section.title.label = view.charAt(0).toUpperCase() + view.slice(1);
      section.node.setAttribute('aria-label', section.title.label);
      this.sections.set(view, section);
      this.addWidget(section);
      if (place >= N_OPEN) {
        (this.content as AccordionPanel).collapse(place);
      }
    });
  }

  /** Unfold a section. */
  showSection(view: View): void {
    const section = this.sections.get(view);
    if (section) {
      const content = this.content as AccordionPanel;
      content.expand(this.widgets.indexOf(section));
      const share = (each: Widget): number => (each === section ? 2 : each.isHidden ? 0 : 1);
      content.setRelativeSizes(this.widgets.map(share));
    }
  }

  /** Give each section that is unfolded its part of the room: one that just was would have none. */
  private share(): void {
    (this.content as AccordionPanel).setRelativeSizes(this.widgets.map(each => (each.isHidden ? 0 : 1)));
  }

  dispose(): void {
    this.parts.model.changed.disconnect(this.fold, this);
    super.dispose();
  }

  /** Without a project there is nothing to unfold. */
  private fold(): void {
    this.content.setHidden(typeof this.parts.model.project()?.root !== 'string');
  }

  private readonly sections = new Map<View, ViewWidget>();
}
