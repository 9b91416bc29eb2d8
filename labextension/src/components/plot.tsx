/** A Vega-Lite plot, drawn by JupyterLab's own renderer. */

import { Widget } from '@lumino/widgets';
import * as React from 'react';

import { plain } from '../words';
import { usePlace } from './place';

const VEGA_LITE = 'application/vnd.vegalite.v5+json';

/** What Vega-Lite is told; its data are values, never an address. Names of a store stand in these and in the title. */
export type Specification = Readonly<Record<string, unknown>>;

interface PlotProps {
  readonly specification: Specification;
  /** What the plot shows, for those who do not see it. */
  readonly label: string;
}

/** Draw a plot; where JupyterLab has no renderer for it, say so. */
export function Plot({ specification, label }: PlotProps): JSX.Element {
  const { rendermime } = usePlace();
  const node = React.useRef<HTMLDivElement>(null);
  const { title, ...drawn } = specification; // Vega looks some words of its own up, such as `constructor`
  const text = JSON.stringify({ ...STYLE, ...drawn });

  // A renderer has to go before its node does: an effect of the other kind ends after that.
  React.useLayoutEffect(() => {
    if (node.current === null || !rendermime.mimeTypes.includes(VEGA_LITE)) {
      return undefined;
    }
    const renderer = rendermime.createRenderer(VEGA_LITE);
    Widget.attach(renderer, node.current);
    void renderer.renderModel(rendermime.createModel({ data: { [VEGA_LITE]: JSON.parse(text) }, trusted: false }));
    return () => renderer.dispose();
  }, [rendermime, text]);

  if (!rendermime.mimeTypes.includes(VEGA_LITE)) {
    return <p className="nbm-dim">This JupyterLab cannot draw Vega-Lite plots: {label}.</p>;
  }
  return (
    <div className="nbm-Plot" role="img" aria-label={label}>
      {typeof title === 'string' && <div className="nbm-Plot-title">{plain(title)}</div>}
      <div ref={node} />
    </div>
  );
}

const STYLE = {
  $schema: 'https://vega.github.io/schema/vega-lite/v5.json',
  width: 'container',
  height: 180,
  autosize: { type: 'fit', contains: 'padding' },
  background: null,
  usermeta: { embedOptions: { actions: false, renderer: 'svg' } }
};
