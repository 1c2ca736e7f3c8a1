// Looks at the page that is shown in a window of that width, in px, and returns what is wrong with it, one line each. It does not trust
// innerWidth: the window of a phone grows with a page that is too wide.
width => {
  const wrong = new Set()
  const name = e => e.tagName.toLowerCase() + (e.getAttribute('class') ? '.' + e.getAttribute('class') : '') + ' "' + e.textContent.trim().slice(0, 40) + '"'
  const scrolls = document.documentElement.scrollWidth
  if (scrolls > width) wrong.add(`wide: the page is ${scrolls} px wide, the window ${width} px`)

  // Colours are computed as WCAG 2.2 has it; what is half transparent is mixed with what is behind it.
  const parse = text => {
    const m = text.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/)
    if (!m) throw new Error('a colour that this test cannot read: ' + text)
    return [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]]
  }
  const over = (front, back) => [0, 1, 2].map(i => front[i] * front[3] + back[i] * (1 - front[3])).concat(1)
  const backs = new Map()
  const behind = e => {
    if (!e) return [255, 255, 255, 1]
    if (!backs.has(e)) {
      const c = parse(getComputedStyle(e).backgroundColor)
      backs.set(e, c[3] === 1 ? c : over(c, behind(e.parentElement)))
    }
    return backs.get(e)
  }
  const luminance = c => {
    const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ratio = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05)
  const contrast = (e, what, colour, least) => {
    const back = behind(e), front = over(parse(colour), back), is = ratio(front, back)
    if (is < least) wrong.add(`contrast: ${what} of ${name(e)}: ${is.toFixed(2)} to 1, want ${least}`)
  }

  let texts = 0
  const range = document.createRange()
  for (const e of document.body.querySelectorAll('*')) {
    const style = getComputedStyle(e), box = e.getBoundingClientRect()
    if (style.display === 'none' || box.width === 0 && box.height === 0) continue
    if (box.right > width + 0.5 || box.left < -0.5) wrong.add(`outside: ${name(e)} from ${box.left} to ${box.right} px`)
    if (e.namespaceURI !== 'http://www.w3.org/1999/xhtml') {
      // Of a bar what is over, the time of now and the renewal must be seen; the track says only how long it is.
      if (e.tagName === 'path' && !e.matches('.all') && e.getAttribute('d') !== 'M0 7h0') contrast(e.closest('svg').parentElement, 'the line ' + e.getAttribute('class'), style.stroke, 3)
      continue
    }
    if (/hidden|clip/.test(style.overflowX) && e.scrollWidth > e.clientWidth) wrong.add(`clipped: ${name(e)}`)
    for (const node of e.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE || !node.data.trim()) continue
      texts++
      const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && +style.fontWeight >= 700
      contrast(e, 'the text', style.color, large ? 3 : 4.5)
      if (parseFloat(style.fontSize) < 12 && !matchMedia('print').matches) wrong.add(`small: ${name(e)} has ${style.fontSize}`)
      // The text stays in its block: otherwise it covers its neighbour.
      const block = e.closest('td, th, li, p, h1, h2, h3, h4, caption, div, header, article')
      const room = block.getBoundingClientRect()
      range.selectNodeContents(node)
      for (const line of range.getClientRects()) {
        if (line.width > 0 && (line.right > room.right + 1 || line.left < room.left - 1)) wrong.add(`covers: the text of ${name(e)} reaches from ${line.left} to ${line.right} px, and its block from ${room.left} to ${room.right} px`)
      }
    }
  }
  if (texts === 0) wrong.add('empty: no text')
  return [...wrong].slice(0, 20)
}
