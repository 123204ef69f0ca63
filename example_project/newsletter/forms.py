"""The contact form."""

from django import forms


class ContactForm(forms.Form):
    """A visitor's message to the editors."""

    name = forms.CharField(max_length=100, label="Your name")
    email = forms.EmailField(label="Your email address")
    message = forms.CharField(max_length=5000, widget=forms.Textarea(attrs={"rows": 8}), label="Your message")

    def clean_name(self):
        """Return the name on one line, because the subject contains it and a header must not contain a line break."""
        return " ".join(self.cleaned_data["name"].split())
