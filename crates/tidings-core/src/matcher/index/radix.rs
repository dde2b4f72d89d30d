//! A radix tree over bytes that visits every stored key which begins a text, in time that follows
//! the text's length and not the number of keys. Knows nothing of topics.

/// The tree. Nodes live in one list and name each other by number, so that neither a long chain
/// of keys nor dropping it uses the stack.
#[derive(Debug)]
pub(super) struct Radix<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<V> {
    /// The bytes between the parent and this node; empty for the root only.
    label: Box<[u8]>,
    parent: u32,
    /// By the first byte of their labels, which differ.
    children: Vec<u32>,
    value: Option<V>,
}

const ROOT: u32 = 0;

impl<V> Default for Radix<V> {
    fn default() -> Radix<V> {
        Radix { nodes: Vec::new(), free: Vec::new() }
    }
}

impl<V> Radix<V> {
    /// Whether no key is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.node(self.locate(key)?).value.as_ref()
    }

    /// The value of `key`.
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let at = self.locate(key)?;
        self.node_mut(at).value.as_mut()
    }

    /// The value of `key`, an empty one if there was none.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut V
    where
        V: Default,
    {
        let at = self.reach(key);
        self.node_mut(at).value.get_or_insert_default()
    }

    /// Takes out `key` and every node that only it needed.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let Some(mut at) = self.locate(key) else { return };
        self.node_mut(at).value = None;
        while self.node(at).value.is_none() && at != ROOT {
            let parent = self.node(at).parent;
            match self.node(at).children.as_slice() {
                [] => {
                    self.node_mut(parent).children.retain(|child| *child != at);
                    self.release(at);
                    at = parent;
                }
                [only] => {
                    let only = *only;
                    self.join(at, only);
                    break;
                }
                _ => break,
            }
        }
        let root = self.node(ROOT);
        if root.value.is_none() && root.children.is_empty() {
            *self = Radix::default();
        }
    }

    /// The values of all keys that `text` begins with, the shortest key first.
    pub(super) fn prefixes(&self, text: &[u8]) -> Vec<&V> {
        let mut values = Vec::new();
        if self.is_empty() {
            return values;
        }
        let mut at = ROOT;
        let mut rest = text;
        loop {
            values.extend(&self.node(at).value);
            let Some((_, child)) = self.child(at, rest) else { return values };
            let Some(behind) = rest.strip_prefix(&*self.node(child).label) else { return values };
            rest = behind;
            at = child;
        }
    }

    fn locate(&self, key: &[u8]) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let mut at = ROOT;
        let mut rest = key;
        while !rest.is_empty() {
            let (_, child) = self.child(at, rest)?;
            rest = rest.strip_prefix(&*self.node(child).label)?;
            at = child;
        }
        Some(at)
    }

    /// The node of `key`, made where there was none.
    fn reach(&mut self, key: &[u8]) -> u32 {
        if self.is_empty() {
            self.add(ROOT, &[]);
        }
        let mut at = ROOT;
        let mut rest = key;
        while !rest.is_empty() {
            let Some((place, mut child)) = self.child(at, rest) else {
                let leaf = self.add(at, rest);
                self.adopt(at, leaf);
                return leaf;
            };
            let label = &self.node(child).label;
            let common = label.iter().zip(rest).take_while(|(one, other)| one == other).count();
            let (head, behind) = label.split_at(common);
            if !behind.is_empty() {
                let (head, behind): (Box<[u8]>, Box<[u8]>) = (head.into(), behind.into());
                let middle = self.add(at, &head);
                if let Some(slot) = self.node_mut(at).children.get_mut(place) {
                    *slot = middle;
                }
                self.node_mut(middle).children.push(child);
                let lower = self.node_mut(child);
                lower.label = behind;
                lower.parent = middle;
                child = middle;
            }
            at = child;
            rest = rest.split_at_checked(common).map_or(&[], |(_, rest)| rest);
        }
        at
    }

    /// The child of `at` whose label begins as `rest` does, and its place among the children.
    fn child(&self, at: u32, rest: &[u8]) -> Option<(usize, u32)> {
        let first = rest.first()?;
        let children = &self.node(at).children;
        let place = children.binary_search_by_key(&Some(first), |child| self.first(*child)).ok()?;
        children.get(place).map(|child| (place, *child))
    }

    fn first(&self, at: u32) -> Option<&u8> {
        self.node(at).label.first()
    }

    fn adopt(&mut self, at: u32, child: u32) {
        let children = &self.node(at).children;
        let place = children.partition_point(|other| self.first(*other) < self.first(child));
        self.node_mut(at).children.insert(place, child);
    }

    /// Puts `below`, the only child of `at`, in its place.
    fn join(&mut self, at: u32, below: u32) {
        let node = self.node_mut(at);
        let parent = node.parent;
        let mut label = std::mem::take(&mut node.label).into_vec();
        let lower = self.node_mut(below);
        label.extend_from_slice(&lower.label);
        lower.label = label.into();
        lower.parent = parent;
        for child in &mut self.node_mut(parent).children {
            if *child == at {
                *child = below;
            }
        }
        self.release(at);
    }

    fn add(&mut self, parent: u32, label: &[u8]) -> u32 {
        let node = Node { label: label.into(), parent, children: Vec::new(), value: None };
        if let Some(at) = self.free.pop() {
            *self.node_mut(at) = node;
            return at;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("memory ends before four thousand million nodes")
    }

    fn release(&mut self, at: u32) {
        let node = Node { label: Box::default(), parent: ROOT, children: Vec::new(), value: None };
        *self.node_mut(at) = node;
        self.free.push(at);
    }

    fn node(&self, at: u32) -> &Node<V> {
        self.nodes.get(at as usize).expect("nodes are named by their place in the list")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<V> {
        self.nodes.get_mut(at as usize).expect("nodes are named by their place in the list")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn prefixes(tree: &Radix<u32>, text: &[u8]) -> Vec<u32> {
        tree.prefixes(text).into_iter().copied().collect()
    }

    proptest! {
        #[test]
        fn the_tree_holds_what_a_map_holds(
            steps in prop::collection::vec((any::<bool>(), "[ab]{0,5}", any::<u32>()), 0..60),
            texts in prop::collection::vec("[ab]{0,7}", 1..10),
        ) {
            let mut tree = Radix::<u32>::default();
            let mut map = BTreeMap::new();
            for (add, key, value) in steps {
                if add {
                    *tree.entry(key.as_bytes()) = value;
                    map.insert(key, value);
                } else {
                    tree.remove(key.as_bytes());
                    map.remove(&key);
                }
                let used = tree.nodes.len() - tree.free.len();
                prop_assert!(used <= 2 * map.len() + 1, "{used} nodes for {} keys", map.len());
            }
            for text in &texts {
                let expected: Vec<u32> = (0..=text.len())
                    .filter_map(|length| map.get(&text[..length]).copied())
                    .collect();
                prop_assert_eq!(prefixes(&tree, text.as_bytes()), expected);
            }
            for key in map.into_keys() {
                tree.remove(key.as_bytes());
            }
            prop_assert!(tree.is_empty());
        }
    }
}
