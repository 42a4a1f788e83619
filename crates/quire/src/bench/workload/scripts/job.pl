# Hashes and arrays of a chosen size in MB: filled, visited in shuffled orders, changed and let go. What is printed depends on
# that alone.
use strict;
use warnings;

my ($megabytes) = @ARGV;
my ($state, $sum) = (20240, 0);

sub below {
    $state ^= $state << 13 & 0xffffffff;
    $state ^= $state >> 17;
    $state ^= $state << 5 & 0xffffffff;
    return $state % $_[0];
}

sub note { $sum = ($sum * 31 + $_[0]) & 0xffffffff }

sub shuffled {
    my @order = 0 .. $_[0] - 1;
    for (my $last = $#order; $last > 0; $last--) {
        my $at = below($last + 1);
        @order[$last, $at] = @order[$at, $last];
    }
    return \@order;
}

# A fifth in strings, whose second half compresses; the rest in small hashes with arrays, by number and by name.
my @strings = map { join("", map { sprintf "%08x", below(0xffffffff) } 1 .. 256) . "empty," x 341 } 1 .. $megabytes * 50;
my $count = $megabytes * 1400;
my (@items, %names);
for my $i (0 .. $count - 1) {
    my $item = { id => $i, name => sprintf("item-%x", below(0x7fffffff)), rank => below(1000), tags => [$i, below($count)] };
    push @items, $item;
    $names{"$item->{name}-$i"} = $item if $i % 2 == 0;
}
for my $pass (0, 1) {
    for my $i (@{ shuffled($count) }) {
        my $item = $items[$i];
        note($item->{tags}[1] + $item->{rank});
        $item->{tags} = [$item->{tags}[1], $i + $pass] if $i % 5 == $pass;
        $items[$i] = { %$item, name => "$item->{name}-$pass" } if $i % 9 == $pass;
    }
    for my $i (@{ shuffled(scalar @strings) }) {
        substr($strings[$i], 8 * below(256), 8) = sprintf "%08x", below(0xffffffff);
        note(unpack "%32C*", $strings[$i]);
    }
    # In the order of their numbers, since a hash has another order in each run.
    my @known = sort { $a->{id} <=> $b->{id} } values %names;
    note(length($known[$_]{name}) + $known[$_]{id}) for 0 .. $#known;
    delete @names{ map { "$items[$_]{name}-$_" } grep { $_ % 4 == 0 } 0 .. $#items } if $pass == 0;
}
my @sorted = sort { $a->{rank} <=> $b->{rank} || $a->{id} <=> $b->{id} } @items;
note($_->{id} + length $_->{name}) for @sorted;
printf "perl: %d MB, %d names, digest %08x\n", $megabytes, scalar keys %names, $sum;
