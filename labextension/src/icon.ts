/** The sign of nbmlops: a run's curve that ends in a champion's star. */

import { LabIcon } from '@jupyterlab/ui-components';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">
    <path d="M3 20h18"/>
    <path d="M3 15l5-4 4 3 4-5"/>
  </g>
  <path class="jp-icon3" fill="#616161" d="M18 2l1.3 2.7 2.9.4-2.1 2 .5 2.9L18 8.6 15.4 10l.5-2.9-2.1-2 2.9-.4z"/>
</svg>`;

export const icon = new LabIcon({ name: 'nbmlops:icon', svgstr: SVG });
